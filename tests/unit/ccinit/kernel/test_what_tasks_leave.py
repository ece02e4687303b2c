"""What a task held is gone with it, without the garbage collector.

PID 1 runs for months. The collector counts objects and not bytes, and in a quiet guest its next
full run may be hours away. A task of a connection holds log entries, or a child's reply with keys.
"""

import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest

from ccinit.errors import DeadlineError
from ccinit.kernel.event_loop import EventLoop, TaskGroup, at_most, deadline, sleep
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
        late,
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
