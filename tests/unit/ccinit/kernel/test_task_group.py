"""Groups: children end with their group, and the first failure is the one that is told."""

import pytest

from ccinit.errors import DeadlineError
from ccinit.kernel.event_loop import (
    Event,
    EventLoop,
    Interrupted,
    Task,
    TaskGroup,
    deadline,
    sleep,
)
from tests.unit.ccinit.kernel.failing_tasks import BoomError, fail, forever


def test_group_failure_cancels_siblings_and_body() -> None:
    steps = []

    async def sibling() -> None:
        try:
            await forever()
        finally:
            steps.append("sibling ended")

    async def main() -> None:
        async with TaskGroup() as group:
            group.start(sibling(), "sibling")
            group.start(fail(0.001), "failing")
            await sleep(100)
            steps.append("not reached")

    with pytest.raises(BoomError):
        EventLoop().run(main())
    assert steps == ["sibling ended"]


def test_group_failure_while_the_body_has_ended_is_raised() -> None:
    async def main() -> None:
        async with TaskGroup() as group:
            group.start(fail(0.001), "failing")

    with pytest.raises(BoomError):
        EventLoop().run(main())


def test_group_body_failure_ends_the_children_first() -> None:
    steps = []

    async def child() -> None:
        try:
            await forever()
        finally:
            await sleep(0.001)
            steps.append("child ended")

    async def main() -> None:
        async with TaskGroup() as group:
            group.start(child(), "child")
            await sleep(0)
            raise BoomError

    with pytest.raises(BoomError):
        EventLoop().run(main())
    assert steps == ["child ended"]


def test_group_failure_is_not_hidden_by_the_body_on_its_way_out() -> None:
    async def main() -> None:
        async with TaskGroup() as group:
            group.start(fail(0.001), "failing")
            try:
                await forever()
            finally:
                raise ValueError("second")

    with pytest.raises(BoomError) as error:
        EventLoop().run(main())
    assert error.value.__notes__ == ["later: ValueError: second"]


def test_group_body_failure_is_not_hidden_by_a_child_on_its_way_out() -> None:
    async def child() -> None:
        try:
            await forever()
        finally:
            raise ValueError("second")

    async def main() -> None:
        async with TaskGroup() as group:
            group.start(child(), "child")
            await sleep(0)
            raise BoomError

    with pytest.raises(BoomError) as error:
        EventLoop().run(main())
    assert error.value.__notes__ == ["later: ValueError: second"]


def test_cancel_of_a_group_is_not_hidden_by_a_child_on_its_way_out() -> None:
    loop = EventLoop()

    async def child() -> None:
        try:
            await forever()
        finally:
            raise ValueError("second")

    async def body() -> None:
        async with TaskGroup() as group:
            group.start(child(), "child")

    async def main() -> Task[None]:
        task = loop.start(body(), "body")
        await sleep(0.001)
        await task.stop()
        return task

    assert loop.run(main()).was_cancelled()


@pytest.mark.parametrize("is_failing", [True, False], ids=["failing", "cancelled"])
def test_task_that_is_started_in_a_group_on_its_way_out_ends_with_it(is_failing: bool) -> None:  # noqa: FBT001
    steps = []
    loop, group, ending, ended = EventLoop(), TaskGroup(), Event(), Event()

    async def slow() -> None:
        try:
            await forever()
        finally:
            ending.set()
            await ended.wait()

    async def late() -> None:
        ended.set()
        try:
            await forever()
        finally:
            steps.append("late one ended")

    async def body() -> None:
        async with group:
            group.start(slow(), "slow")
            await sleep(0)
            if is_failing:
                group.start(fail(), "failing")
            await forever()

    async def main() -> None:
        task = loop.start(body(), "body")
        await sleep(0)
        await sleep(0)
        if not is_failing:
            task.cancel()
        await ending.wait()
        group.start(late(), "late")
        async with deadline(5, "test.hang"):
            await task.join()

    with pytest.raises(BoomError if is_failing else Interrupted):
        loop.run(main())
    assert steps == ["late one ended"]


def test_deadline_around_a_group_ends_its_children() -> None:
    steps = []

    async def child() -> None:
        try:
            await forever()
        finally:
            steps.append("child ended")

    async def main() -> None:
        async with deadline(0.001, "test.late"), TaskGroup() as group:
            group.start(child(), "child")

    with pytest.raises(DeadlineError):
        EventLoop().run(main())
    assert steps == ["child ended"]


def test_cancelled_child_of_a_group_is_no_failure() -> None:
    async def main() -> str:
        async with TaskGroup() as group:
            child = group.start(forever(), "child")
            await sleep(0)
            child.cancel()
        return "done"

    assert EventLoop().run(main()) == "done"


def test_many_tasks_all_report_their_failures() -> None:
    """R78 in small: none of a storm of failures goes unnoticed."""

    async def one(seen: list[int], number: int) -> None:
        try:
            await fail(0.001 * (number % 5))
        except BoomError:
            seen.append(number)

    async def main() -> list[int]:
        seen: list[int] = []
        async with TaskGroup() as group:
            for number in range(1000):
                group.start(one(seen, number), "one")
        return seen

    assert sorted(EventLoop().run(main())) == list(range(1000))
