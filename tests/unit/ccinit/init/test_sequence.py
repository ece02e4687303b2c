"""What the host is told of a phase that failed."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from ccinit.agent.figures import Figures
from ccinit.agent.guest import PhaseTime, inner_seconds
from ccinit.agent.state import BootState
from ccinit.errors import ConfigError, DeadlineError, PeerError
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.init import sequence
from ccinit.init.sequence import SEED_LATE, PhaseError, Row, run_phase
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.task import sleep
from ccinit.values import replace

if TYPE_CHECKING:
    from ccinit.agent.guest import EarlyGuest


class Bench:
    """A guest that notes what its owner and its host are told."""

    def __init__(self) -> None:
        self.state = BootState()
        self.events: list[str] = []
        self.public: list[tuple[Phase, Code]] = []
        self.figures = Figures()
        self.phase_time = PhaseTime()
        guest = SimpleNamespace(
            state=self.state,
            log=SimpleNamespace(public_event=lambda *told: self.public.append(told)),
            figures=self.figures,
            phase_time=self.phase_time,
            event=self.events.append,
        )
        self.guest = cast("EarlyGuest", guest)


def fail_in(row: Row, error: Exception) -> PhaseError:
    """Run a phase that raises `error`; return how it ended."""

    async def body() -> None:
        raise error

    with pytest.raises(PhaseError) as caught:
        EventLoop().run(run_phase(Bench().guest, row, body()))
    return caught.value


def test_phase_is_entered_before_its_body_and_timed_behind_it() -> None:
    bench = Bench()

    async def body() -> str:
        assert bench.state.phase is Phase.UNLOCK
        assert bench.public == [(Phase.UNLOCK, Code.OK)]
        assert bench.events == []
        return "unlocked"

    assert EventLoop().run(run_phase(bench.guest, sequence.UNLOCK, body())) == "unlocked"
    (line,) = bench.events
    assert line.startswith("UNLOCK took ")
    assert 0 <= bench.figures.phase_seconds["UNLOCK"] < 60


@pytest.mark.parametrize(
    ("row", "code"),
    [(sequence.UNLOCK, Code.STORAGE), (sequence.ATTEST, Code.KBS_UNREACHABLE)],
)
def test_phase_ends_at_the_deadline_of_its_row_or_of_the_configuration(
    row: Row, code: Code
) -> None:
    async def body() -> None:
        await sleep(60)

    for late, seconds in ((replace(row, seconds=0.01), 0), (row, 0.01)):
        with pytest.raises(PhaseError) as caught:
            EventLoop().run(run_phase(Bench().guest, late, body(), seconds))
        assert caught.value.error.reason == f"{row.phase.name.lower()}.deadline"
        assert caught.value.code is code


def test_what_a_phase_waits_for_ends_before_it() -> None:
    bench = Bench()
    seen: list[float] = []

    async def body() -> None:
        seen.extend(bench.phase_time.left(most) for most in (100, 10_000))

    assert bench.phase_time.left(86_400) == 86_400
    EventLoop().run(run_phase(bench.guest, sequence.UNLOCK, body()))
    assert seen[0] == 100
    assert sequence.UNLOCK.seconds - 30 < seen[1] < sequence.UNLOCK.seconds
    assert inner_seconds(seen[1]) < seen[1] - 30

    async def fail() -> None:
        raise PeerError("kbs.refused", "403")

    with pytest.raises(PhaseError):
        EventLoop().run(run_phase(bench.guest, sequence.PULL, fail(), 1800))
    assert bench.phase_time.left(86_400) == 86_400


@pytest.mark.parametrize(
    ("seconds", "inner"), [(86_400, 86_340), (600, 540), (60, 54), (1, 1), (0, 1), (-5, 1)]
)
def test_whoever_has_to_say_why_has_less(seconds: float, inner: int) -> None:
    assert inner_seconds(seconds) == inner


def test_deadline_that_the_configuration_was_to_give_is_over_at_once_without_it() -> None:
    async def body() -> None:
        await sleep(60)

    for row in (sequence.NET, sequence.ATTEST, sequence.PULL):
        with pytest.raises(PhaseError) as caught:
            EventLoop().run(run_phase(Bench().guest, row, body()))
        assert caught.value.error.reason == f"{row.phase.name.lower()}.deadline"


@pytest.mark.parametrize(
    ("row", "error", "code", "reason"),
    [
        (sequence.UNLOCK, ConfigError("disk.size", "0 bytes"), Code.STORAGE, "disk.size"),
        (sequence.UNLOCK, OSError(28, "/dev/vda of tenant"), Code.STORAGE, "kernel.call"),
        (sequence.MOUNT, FileNotFoundError(2, "/run"), Code.BOOT, "kernel.call"),
        (sequence.ATTEST, PeerError("kbs.refused", "403"), Code.REFUSED, "kbs.refused"),
        (
            sequence.ATTEST,
            DeadlineError("kbs.unreachable", "no answer"),
            Code.KBS_UNREACHABLE,
            "kbs.unreachable",
        ),
        (sequence.PULL, DeadlineError("kbs.unreachable", ""), Code.IMAGE, "kbs.unreachable"),
        (sequence.CONFIG, DeadlineError(SEED_LATE, ""), Code.RANDOM, SEED_LATE),
        (sequence.CONFIG, DeadlineError("child.late", ""), Code.CONFIG, "child.late"),
        (sequence.PULL, DeadlineError(SEED_LATE, "says a child"), Code.IMAGE, SEED_LATE),
    ],
)
def test_failure_of_a_phase_is_its_one_code(
    row: Row, error: Exception, code: Code, reason: str
) -> None:
    failure = fail_in(row, error)
    assert (failure.phase, failure.code, failure.error.reason) == (row.phase, code, reason)
    assert "tenant" not in str(failure)
