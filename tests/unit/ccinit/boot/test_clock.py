"""What time it can be, and that nothing reads the host's word for it."""

import time
from pathlib import Path
from typing import Never

import pytest

from ccinit.attest.patience import AttestLimits, Patience, Waiting
from ccinit.boot import clock as module
from ccinit.boot.clock import advance_clock, read_build_time, verify_time
from ccinit.errors import PeerError, VerificationError
from ccinit.net.stream import Deadline

FLOOR = 1_760_000_000


def test_build_time_is_read(tmp_path: Path) -> None:
    (tmp_path / "build_time").write_text("1760000000\n")
    assert read_build_time(str(tmp_path / "build_time")) == FLOOR


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        pytest.param(0, "clock.floor", id="1970"),
        pytest.param(FLOOR - 10 * 365 * 86_400, "clock.floor", id="ten years back"),
        pytest.param(FLOOR - 1, "clock.floor", id="a second before the image"),
        pytest.param(4_102_444_801, "clock.ceiling", id="2100"),
        pytest.param(2**62, "clock.ceiling", id="beyond all dates"),
    ],
)
def test_r16_time_that_cannot_be_now_is_refused(seconds: int, reason: str) -> None:
    assert verify_time(FLOOR, FLOOR) == FLOOR
    assert verify_time(FLOOR + 86_400, FLOOR) == FLOOR + 86_400
    with pytest.raises(VerificationError) as refused:
        verify_time(seconds, FLOOR)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("told", "late"),
    [
        pytest.param(FLOOR + 7 * 86_400, 7 * 86_400, id="stopped for a week"),
        pytest.param(FLOOR + 1, 1, id="a second"),
        pytest.param(FLOOR, 0, id="in time"),
        pytest.param(FLOOR - 7 * 86_400, 0, id="a reply that was kept for a week"),
    ],
)
def test_clock_that_is_set_goes_forward_and_never_back(
    told: int, late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: list[int] = []
    monkeypatch.setattr(module, "realtime", lambda: FLOOR + 0.5)
    monkeypatch.setattr(module, "set_realtime", settings.append)
    assert advance_clock(told) == late
    assert settings == [told] * bool(late)


def test_clock_does_not_go_beyond_what_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[int] = []
    monkeypatch.setattr(module, "realtime", lambda: FLOOR + 0.5)
    monkeypatch.setattr(module, "set_realtime", settings.append)
    with pytest.raises(VerificationError) as refused:
        advance_clock(4_102_444_801)
    assert (refused.value.reason, settings) == ("clock.ceiling", [])


def test_r16_no_deadline_reads_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.clock_gettime

    def clock_gettime(clock: int) -> float:
        assert clock == time.CLOCK_BOOTTIME
        return real(clock)

    def refuse() -> Never:
        raise AssertionError("the wall clock was read")

    monkeypatch.setattr(time, "clock_gettime", clock_gettime)
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, refuse)
    deadline = Deadline()
    deadline.start(total_seconds=5, wait_seconds=2)
    assert deadline.left("x") == 2
    patience = Patience(AttestLimits(first_delay_seconds=0.001), Waiting())
    patience.wait_after(PeerError("net.closed", "closed"), None)
    assert patience.request_seconds == 60.0
