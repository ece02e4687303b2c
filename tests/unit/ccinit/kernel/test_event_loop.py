"""The runner: interrupts, deadlines, and that no exception is lost."""

import os
import threading
from functools import partial

import pytest

from ccinit.errors import DeadlineError
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import (
    Event,
    EventLoop,
    Interrupted,
    Task,
    TaskGroup,
    deadline,
    readable,
    sleep,
)
from tests.unit.ccinit.kernel.failing_tasks import BoomError, fail, forever


def test_run_returns_the_result_of_main() -> None:
    async def main() -> int:
        await sleep(0)
        return 7

    assert EventLoop().run(main()) == 7


def test_run_raises_what_main_raised() -> None:
    with pytest.raises(BoomError):
        EventLoop().run(fail())


def test_run_when_main_ends_cancels_what_it_left_and_runs_its_finally() -> None:
    loop, steps = EventLoop(), []

    async def background() -> None:
        try:
            await sleep(100)
        finally:
            await sleep(0.001)  # cleaning up may wait
            steps.append("clean")

    async def main() -> None:
        loop.start(background(), "background")
        await sleep(0)

    loop.run(main())
    assert steps == ["clean"]


def test_task_that_is_started_after_main_has_ended_does_not_keep_the_loop() -> None:
    steps = []
    loop = EventLoop()

    async def late() -> None:
        try:
            await sleep(30)
            steps.append("not reached")
        finally:
            steps.append("late one ended")

    async def left_over() -> None:
        try:
            await forever()
        finally:
            loop.start(late(), "late")

    async def main() -> None:
        loop.start(left_over(), "left over")
        await sleep(0)

    loop.run(main())
    assert steps == ["late one ended"]


def test_r95_deadline_that_a_pause_went_over_is_over_and_what_lasts_longer_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The machine stood still for an hour, by the clock of its boot."""
    paused = [0.0]
    monkeypatch.setattr("ccinit.kernel.event_loop.boottime", lambda: boottime() + paused[0])
    reader, writer = os.pipe()
    loop, looks = EventLoop(), []

    async def pause() -> None:
        await sleep(0.01)
        paused[0] += 3600

    async def be_late() -> None:
        async with deadline(60, "what is over"):
            while True:
                looks.append(await readable(reader))

    async def main() -> str:
        loop.start(pause(), "pause")
        async with deadline(2 * 3600, "what lasts longer"):
            with pytest.raises(DeadlineError):
                await be_late()
            os.write(writer, b"x")
            await readable(reader)
        return "goes on"

    began = boottime()
    try:
        assert loop.run(main()) == "goes on"
    finally:
        os.close(reader)
        os.close(writer)
    assert looks == []  # nothing span meanwhile
    assert boottime() - began < 5


def test_background_failure_reaches_the_runner_and_interrupts_main() -> None:
    loop, steps = EventLoop(), []

    async def main() -> None:
        loop.start(fail(0.001), "background")
        try:
            await sleep(100)
        except Interrupted:
            steps.append("interrupted")
            raise

    with pytest.raises(BoomError):
        loop.run(main())
    assert steps == ["interrupted"]


def test_background_failure_after_main_returned_reaches_the_runner() -> None:
    loop = EventLoop()

    async def stubborn() -> None:
        try:
            await sleep(100)
        finally:
            raise BoomError

    async def main() -> None:
        loop.start(stubborn(), "stubborn")
        await sleep(0)

    with pytest.raises(BoomError):
        loop.run(main())


def test_second_failure_becomes_a_note_of_the_first() -> None:
    loop = EventLoop()

    async def later() -> None:
        try:
            await sleep(100)
        finally:
            raise ValueError("second")

    async def main() -> None:
        loop.start(later(), "later")
        await sleep(0)
        await fail()

    with pytest.raises(BoomError) as error:
        loop.run(main())
    assert error.value.__notes__ == ["later: ValueError: second"]


def test_joined_failure_goes_to_the_joiner_only() -> None:
    loop = EventLoop()

    async def main() -> str:
        task = loop.start(fail(0.001), "child")
        try:
            await task.join()
        except BoomError:
            return "seen"
        return "not seen"

    assert loop.run(main()) == "seen"


def test_stop_ends_a_task_without_an_error() -> None:
    loop = EventLoop()

    async def main() -> Task[None]:
        task = loop.start(forever(), "child")
        await sleep(0)
        await task.stop()
        return task

    assert loop.run(main()).was_cancelled()


def test_cancel_before_the_first_step_comes_at_the_first_wait() -> None:
    """Or else what the task was given, a descriptor say, would be nobody's."""
    loop, steps = EventLoop(), []

    async def child() -> None:
        try:
            steps.append("entered")
            await sleep(0)
            steps.append("not reached")
        finally:
            steps.append("given back")

    async def main() -> Task[None]:
        task = loop.start(child(), "child")
        await task.stop()
        return task

    assert loop.run(main()).was_cancelled()
    assert steps == ["entered", "given back"]


def test_cancel_cannot_come_between_what_is_taken_and_the_group_that_keeps_it() -> None:
    loop, steps = EventLoop(), []

    async def child() -> None:
        steps.append("taken")
        async with deadline(60, "test.late"), TaskGroup() as group:
            try:
                await group.start(forever(), "grandchild").join()
            finally:
                steps.append("given back")

    async def main() -> None:
        task = loop.start(child(), "child")
        await sleep(0)
        assert steps == ["taken"]
        await task.stop()

    loop.run(main())
    assert steps == ["taken", "given back"]


def test_deadlines_that_were_kept_do_not_pile_up() -> None:
    """A host may ask for 60 seconds as often as it likes."""
    loop = EventLoop()

    async def main() -> int:
        async with deadline(60, "test.outer"):
            for _ in range(10_000):
                async with deadline(60, "test.inner"):
                    pass
        return len(loop._timers)

    assert loop.run(main()) < 1000


def test_dropping_kept_deadlines_leaves_the_others() -> None:
    async def main() -> None:
        async with deadline(0.05, "test.outer"):
            for _ in range(1000):
                async with deadline(60, "test.inner"):
                    pass
            await forever()

    with pytest.raises(DeadlineError) as error:
        EventLoop().run(main())
    assert error.value.reason == "test.outer"


def test_timers_that_are_left_when_others_are_dropped_keep_their_order() -> None:
    loop, done = EventLoop(), Event()
    fired: list[float] = []

    async def main() -> None:
        at = [(7 * number % 256) / 1000 for number in range(256)]  # far from sorted
        timers = [loop.call_after(seconds, partial(fired.append, seconds)) for seconds in at]
        for number, timer in enumerate(timers):
            if number % 3:
                timer.cancel()
        loop.call_after(0.4, done.set)  # which drops the cancelled ones
        assert len(loop._timers) < 150
        await done.wait()

    loop.run(main())
    assert len(fired) == 86
    assert fired == sorted(fired)


def test_timer_may_be_a_year_off() -> None:
    reader, writer = os.pipe()

    async def wait_a_year() -> None:
        await sleep(366 * 86400.0)

    async def main() -> bytes:
        async with TaskGroup() as group:
            group.start(wait_a_year(), "a year")
            await readable(reader)
            group.cancel()
        return os.read(reader, 1)

    try:
        threading.Timer(0.05, os.write, (writer, b"x")).start()
        assert EventLoop().run(main()) == b"x"
    finally:
        os.close(reader)
        os.close(writer)


def test_waiting_for_nothing_at_all_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="nothing can wake"):
        EventLoop().run(forever())


def test_busy_task_does_not_starve_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0
    monkeypatch.setattr("ccinit.kernel.event_loop.boottime", lambda: float(turns))  # a second each

    async def main() -> None:
        nonlocal turns
        async with deadline(10, "test.late"):
            while turns < 1000:
                turns += 1
                await sleep(0)

    with pytest.raises(DeadlineError):
        EventLoop().run(main())
    assert 10 <= turns < 20
