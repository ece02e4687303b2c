"""The time of day of log entries, by what the guest itself says of its clock and nothing else."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from ccinit.boot.clock import format_utc
from ccinit.formats.sealed_log import Kind
from ccinit.seal.log import OWN_SOURCE
from guest_owner.sealed_log.wall_clock import WallClock, json_times, stamp

SECOND = 1_000_000
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
SET = f"clock: set to {format_utc(int(NOON.timestamp()))}".encode()
LATE = b"clock: 3600 s late, set forward to what the KBS says"


def told(*texts: tuple[int, bytes], kind: Kind = Kind.EVENT, source: str = OWN_SOURCE) -> WallClock:
    clock = WallClock()
    for boottime_us, text in texts:
        clock.note(kind, source, boottime_us, text)
    return clock


def test_moment_that_the_kbs_told_dates_what_is_before_and_after_it() -> None:
    clock = told((10 * SECOND, SET))
    assert clock.utc(10 * SECOND) == "2026-11-28T12:00:00.000Z"
    assert clock.utc(9 * SECOND + 999_999) == "2026-11-28T11:59:59.999Z"
    assert clock.utc(3610 * SECOND + 1_500) == "2026-11-28T13:00:00.001Z"


def test_clock_that_was_set_forward_dates_what_comes_then() -> None:
    clock = told((10 * SECOND, SET), (20 * SECOND, LATE))
    assert clock.utc(20 * SECOND) == "2026-11-28T13:00:10.000Z"


def test_nothing_is_dated_before_the_kbs_has_told_the_time() -> None:
    clock = told((5 * SECOND, LATE))
    assert clock.utc(5 * SECOND) is None
    assert stamp(5 * SECOND, clock) == "                5.000000"
    assert json_times(5 * SECOND, clock) == {"boottime_us": 5 * SECOND, "utc": None}


@pytest.mark.parametrize(
    ("kind", "source"),
    [(Kind.STDOUT, OWN_SOURCE), (Kind.EVENT, "owner"), (Kind.EVENT, ""), (Kind.KERNEL, OWN_SOURCE)],
)
def test_words_of_others_set_no_clock(kind: Kind, source: str) -> None:
    assert told((SECOND, SET), kind=kind, source=source).utc(SECOND) is None


@pytest.mark.parametrize(
    "text",
    [
        b"clock: set to 2026-13-28T12:00:00Z",
        b"clock: set to 0001-01-01T00:00:00Z",
        SET + b" ",
        b"the clock: set to 2026-11-28T12:00:00Z",
        SET.replace(b"Z", b""),
    ],
)
def test_time_that_is_none_sets_no_clock(text: bytes) -> None:
    assert told((SECOND, text)).utc(SECOND) is None


def test_times_beyond_any_calendar_are_not_known() -> None:
    assert told((0, b"clock: set to 9999-12-31T23:59:59Z")).utc(SECOND) is None
    late = (0, LATE.replace(b"3600", b"9" * 9))
    assert told((0, SET), *[late] * 300).utc(0) is None


def test_stamps_of_one_log_are_equally_wide() -> None:
    clock = told((10 * SECOND, SET))
    assert stamp(10 * SECOND, clock) == "2026-11-28T12:00:00.000Z"
    assert len(stamp(0, WallClock())) == len(stamp(0, clock))
    assert stamp(10 * SECOND, None) == "     10.000000"
    assert json_times(10 * SECOND, None) == {"boottime_us": 10 * SECOND}


def test_guest_that_runs_is_dated_by_our_clock() -> None:
    before = datetime.now(UTC)
    found = WallClock.of_running(60.0).utc(60 * SECOND)
    assert found is not None
    assert re.fullmatch(r"[0-9-]{10}T[0-9:.]{12}Z", found)
    moment = datetime.fromisoformat(found.removesuffix("Z")).replace(tzinfo=UTC)
    assert timedelta(milliseconds=-1) <= moment - before < timedelta(seconds=10)


@pytest.mark.parametrize("uptime", [float("nan"), float("inf"), 1e300, -1e12])
def test_guest_that_lies_about_its_life_is_not_dated(uptime: float) -> None:
    assert WallClock.of_running(uptime).utc(0) is None
