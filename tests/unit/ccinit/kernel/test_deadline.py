"""Deadlines of the event loop: an error that names itself, or none (`at_most`)."""

import pytest

from ccinit.errors import DeadlineError
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import EventLoop, at_most, deadline, sleep
from tests.unit.ccinit.kernel.failing_tasks import forever


def test_deadline_passed_raises_its_reason() -> None:
    async def main() -> None:
        async with deadline(0.001, "test.late"):
            await forever()

    with pytest.raises(DeadlineError) as error:
        EventLoop().run(main())
    assert error.value.reason == "test.late"


def test_deadline_kept_leaves_no_interrupt_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [0.0]
    monkeypatch.setattr("ccinit.kernel.event_loop.boottime", lambda: boottime() + passed[0])

    async def main() -> str:
        async with deadline(60, "test.late"):
            await sleep(0.001)
        passed[0] += 120
        await sleep(0.001)
        return "done"

    assert EventLoop().run(main()) == "done"


@pytest.mark.parametrize(("seconds", "is_over"), [(0.001, True), (60, False)])
def test_time_that_is_up_may_be_no_error(seconds: float, *, is_over: bool) -> None:
    async def main() -> str:
        async with at_most(seconds) as limit:
            await (forever() if is_over else sleep(0.001))
        await sleep(0.002)
        assert limit.is_over is is_over
        return "done"

    assert EventLoop().run(main()) == "done"


def test_time_that_is_up_hides_no_other_error() -> None:
    """Neither one that came first, nor one that the interrupt has brought about."""

    async def fail_at_once() -> None:
        async with at_most(60):
            raise ValueError

    async def fail_on_the_way_out() -> None:
        async with at_most(0.001):
            try:
                await forever()
            finally:
                raise ValueError

    async def be_late_outside() -> None:
        async with deadline(0.001, "test.outer"), at_most(60):
            await forever()

    for work in (fail_at_once(), fail_on_the_way_out()):
        with pytest.raises(ValueError):  # noqa: PT011  # it has no text
            EventLoop().run(work)
    with pytest.raises(DeadlineError):
        EventLoop().run(be_late_outside())


@pytest.mark.parametrize(
    ("outer", "inner", "reason"),
    [
        pytest.param(0.001, 10, "test.outer", id="outer first"),
        pytest.param(10, 0.001, "test.inner", id="inner first"),
    ],
)
def test_nested_deadlines_name_the_one_that_passed(outer: float, inner: float, reason: str) -> None:
    async def main() -> None:
        async with deadline(outer, "test.outer"), deadline(inner, "test.inner"):
            await forever()

    with pytest.raises(DeadlineError) as error:
        EventLoop().run(main())
    assert error.value.reason == reason


def test_outer_deadline_still_passes_after_the_inner_one_was_handled() -> None:
    async def main() -> None:
        async with deadline(0.02, "test.outer"):
            try:
                async with deadline(0.001, "test.inner"):
                    await forever()
            except DeadlineError:
                await forever()

    with pytest.raises(DeadlineError) as error:
        EventLoop().run(main())
    assert error.value.reason == "test.outer"


def test_cleaning_up_after_a_deadline_may_wait() -> None:
    steps = []

    async def main() -> None:
        async with deadline(0.001, "test.late"):
            try:
                await forever()
            finally:
                await sleep(0.001)
                steps.append("clean")

    with pytest.raises(DeadlineError):
        EventLoop().run(main())
    assert steps == ["clean"]
