"""The loop's own parts, stopped at each wait; and that the harness sees what a flow leaves."""

import pytest

from ccinit.errors import DeadlineError
from ccinit.kernel.event_loop import Event, EventLoop, Lock, TaskGroup, deadline, sleep
from tests.fakes.machine.interruptions import Stop, Way, each_stop


def test_turn_is_free_again_wherever_its_holder_or_who_waits_for_it_is_stopped() -> None:
    async def hold(lock: Lock) -> None:
        async with lock:
            await sleep(0)

    async def all_hold(lock: Lock) -> None:
        async with TaskGroup() as group:
            for number in range(3):
                group.start(hold(lock), f"holder {number}")
            await hold(lock)

    for stop in each_stop():
        lock, loop = Lock(), EventLoop()

        async def main(lock: Lock = lock, stop: Stop = stop) -> None:
            stop.verify(await stop.attempt(all_hold(lock)))
            async with deadline(10, "test.lock"):
                await hold(lock)

        loop.run(main())


def test_event_forgets_who_was_stopped_while_it_waited() -> None:
    async def wait(event: Event) -> None:
        async with TaskGroup() as group:
            group.start(event.wait(), "waiter")
            await sleep(0)
            event.set()

    for stop in each_stop():
        event = Event()
        stop.verify(EventLoop().run(stop.attempt(wait(event))))
        assert not event.has_waiters()


def test_inner_deadline_does_not_take_the_outer_ones_interrupt_for_its_own() -> None:
    async def nested() -> None:
        with pytest.raises(DeadlineError, match=r"test\.inner"):
            async with deadline(0.01, "test.inner"):
                await sleep(60)
        await sleep(0)

    for stop in each_stop():
        stop.verify(EventLoop().run(stop.attempt(nested())))


@pytest.mark.parametrize("way", [Way.CANCELLED, Way.LATE])
def test_harness_sees_a_turn_that_is_kept(way: Way) -> None:
    async def keep(lock: Lock) -> None:
        await lock.__aenter__()
        await sleep(0)
        await lock.__aexit__()

    async def main() -> None:
        stop, lock = Stop(way, 1), Lock()
        stop.verify(await stop.attempt(keep(lock)))
        assert stop.has_happened
        async with deadline(0.01, "test.lock"), lock:
            pass

    with pytest.raises(DeadlineError, match=r"test\.lock"):
        EventLoop().run(main())


def test_harness_sees_a_task_that_is_left() -> None:
    async def leave(loop: EventLoop) -> None:
        loop.start(sleep_long(), "left")
        await sleep(0)

    async def sleep_long() -> None:
        await sleep(60)

    loop = EventLoop()
    with pytest.raises(AssertionError, match=r"leaves .<Task left>"):
        loop.run(Stop(Way.CANCELLED, 9).attempt(leave(loop)))


def test_harness_sees_a_failure_that_hides_the_stop() -> None:
    async def hide() -> None:
        try:
            await sleep(0)
        finally:
            raise ZeroDivisionError

    stop = Stop(Way.CANCELLED, 1)
    failure = EventLoop().run(stop.attempt(hide()))
    with pytest.raises(AssertionError, match="CANCELLED at wait 1"):
        stop.verify(failure)
