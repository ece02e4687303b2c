"""What a task held is gone with it, without the garbage collector.

PID 1 runs for months. The collector counts objects and not bytes, and in a quiet guest its next
full run may be hours away. A task of a connection holds log entries, or a child's reply with keys.
"""

import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest

from ccinit.errors import DeadlineError
from ccinit.kernel.event_loop import Event, EventLoop, TaskGroup, at_most, deadline, sleep
from tests.unit.ccinit.kernel.failing_tasks import BoomError, fail, forever

Case = Callable[[EventLoop, "Held"], Awaitable[None]]


class Held:
    """Stands for what a task works with."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def hold(_held: Held) -> None:
    await forever()


async def hold_and_fail(_held: Held) -> None:
    await sleep(0)
    await fail()


async def cancelled_alone(loop: EventLoop, held: Held) -> None:
    task = loop.start(hold(held), "one")
    await sleep(0)
    await task.stop()
    assert task.was_cancelled()


async def cancelled_with_its_group(_loop: EventLoop, held: Held) -> None:
    async with TaskGroup() as group:
        group.start(hold(held), "one")
        await sleep(0)
        group.cancel()


async def failed_in_a_group(_loop: EventLoop, held: Held) -> None:
    try:
        async with TaskGroup() as group:
            group.start(hold(held), "sibling")
            group.start(hold_and_fail(held), "one")
            await forever()
    except BoomError:
        return
    pytest.fail("the task's error has to come out")


async def cancelled_by_its_groups_body(_loop: EventLoop, held: Held) -> None:
    """As when a connection ends with an error: what its calls had started is cancelled."""
    try:
        await _fail_in_the_body(held)
    except BoomError:
        return
    pytest.fail("the body's own error has to come out")


async def _fail_in_the_body(held: Held) -> None:
    group = TaskGroup()  # held by the frame, which the error's traceback holds
    async with group:
        group.start(hold(held), "one")
        await hold_and_fail(held)


async def late(_loop: EventLoop, held: Held) -> None:
    try:
        async with deadline(0.001, "test.late"), TaskGroup() as group:
            group.start(hold(held), "one")
            await hold(held)
    except DeadlineError:
        return
    pytest.fail("it was not late")


async def failed_by_its_own_group(_loop: EventLoop, held: Held) -> None:
    try:
        async with TaskGroup() as group:
            group.start(failed_in_a_group_of_its_own(held), "one")
    except BoomError:
        return
    pytest.fail("the task's error has to come out")


async def failed_in_a_group_of_its_own(held: Held) -> None:
    async with TaskGroup() as group:
        group.start(hold_and_fail(held), "one")


async def late_in_a_group(_loop: EventLoop, held: Held) -> None:
    try:
        async with TaskGroup() as group:
            group.start(be_late(held), "one")
    except DeadlineError:
        return
    pytest.fail("it was not late")


async def be_late(held: Held) -> None:
    async with deadline(0.001, "test.late"):
        await hold(held)


async def interrupted_again_while_its_group_ends(_loop: EventLoop, held: Held) -> None:
    ending, go_on = Event(), Event()
    try:
        async with TaskGroup() as outer:
            tasks = [outer.start(fail_beside_a_slow_one(held, ending, go_on), "one")]
            await ending.wait()
            tasks.pop().cancel()
            await sleep(0)
            go_on.set()
    except BoomError:
        return
    pytest.fail("the task's error has to come out")


async def fail_beside_a_slow_one(held: Held, ending: Event, go_on: Event) -> None:
    async with TaskGroup() as group:
        group.start(end_slowly(ending, go_on), "slow")
        await hold_and_fail(held)


async def end_slowly(ending: Event, go_on: Event) -> None:
    try:
        await forever()
    finally:
        ending.set()
        await go_on.wait()


async def joined(loop: EventLoop, held: Held) -> None:
    try:
        await loop.start(hold_and_fail(held), "one").join()
    except BoomError:
        return
    pytest.fail("the task's error has to come out")


async def stopped_and_failed(loop: EventLoop, held: Held) -> None:
    tasks = [loop.start(fail_in_the_end(held), "one")]
    await sleep(0)
    try:
        await tasks.pop().stop()
    except BoomError:
        return
    pytest.fail("the task's error has to come out")


async def fail_in_the_end(held: Held) -> None:
    try:
        await hold(held)
    finally:
        await fail()


async def over(_loop: EventLoop, held: Held) -> None:
    async with at_most(0.001) as time:
        await hold(held)
    assert time.is_over


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "case",
    [
        cancelled_alone,
        cancelled_with_its_group,
        failed_in_a_group,
        cancelled_by_its_groups_body,
        failed_by_its_own_group,
        late,
        late_in_a_group,
        interrupted_again_while_its_group_ends,
        joined,
        stopped_and_failed,
        over,
    ],
)
def test_nothing_is_left(case: Case) -> None:
    loop, left = EventLoop(), []

    async def main() -> None:
        held = Held()
        seen = weakref.ref(held)
        await case(loop, held)
        del held
        await sleep(0)  # the step that was interrupted is over
        left.append(seen())

    loop.run(main())
    assert left == [None]


@pytest.mark.usefixtures("no_collector")
def test_what_somebody_still_holds_is_there() -> None:
    """A control: the same look finds what is left."""
    loop, left, tasks = EventLoop(), [], []

    async def main() -> None:
        held = Held()
        seen = weakref.ref(held)
        tasks.append(loop.start(hold(held), "one"))
        await sleep(0)
        del held
        left.append(seen())

    loop.run(main())
    assert isinstance(left[0], Held)
