"""The time of day of log entries, which a guest stamps with the time since its boot alone.

A guest has no clock before its KBS has told it the time (`ccinit.boot.clock`), and may set that
clock forward later. Of both it makes events, so whoever reads its log can tell the time of day of
whatever comes after them: to a second, and as the KBS had it. While a guest runs, our own clock and
the time since its boot say the same.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from ccinit.formats.sealed_log import Kind

_OWN_SOURCE: Final = "ccinit"
_SET: Final = re.compile(rb"clock: set to ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})Z")
_LATE: Final = re.compile(rb"clock: ([0-9]{1,9}) s late, set forward .*")
_WIDTH: Final = len("2026-11-28T15:30:00.000Z")


class WallClock:
    """A guest's clock, as far as it is known."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._booted: datetime | None = None

    @classmethod
    def of_running(cls, uptime_seconds: float) -> "WallClock":
        """Return the clock of a guest that booted so long ago, by its own word."""
        clock = cls()
        try:
            clock._booted = datetime.now(UTC) - timedelta(seconds=uptime_seconds)
        except (ValueError, OverflowError):  # no honest guest's
            clock._booted = None
        return clock

    def note(self, kind: Kind, source: str, boottime_us: int, data: bytes) -> None:
        """Take the next entry of the guest's log."""
        if (kind, source) != (Kind.EVENT, _OWN_SOURCE):  # no container writes such ones
            return
        try:
            if told := _SET.fullmatch(data):
                moment = datetime.fromisoformat(told[1].decode()).replace(tzinfo=UTC)
                self._booted = moment - timedelta(microseconds=boottime_us)
            elif (late := _LATE.fullmatch(data)) and self._booted is not None:
                self._booted += timedelta(seconds=int(late[1]))
        except (ValueError, OverflowError):  # no honest guest's
            self._booted = None

    def utc(self, boottime_us: int) -> str | None:
        """Return the time of day (RFC 3339) of a moment since boot; None if it is not known."""
        if self._booted is None:
            return None
        try:
            moment = self._booted + timedelta(microseconds=boottime_us)
        except OverflowError:
            return None
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def stamp(boottime_us: int, clock: WallClock | None) -> str:
    """Return the time of an entry for people: of day, if there is a clock and it knows."""
    if clock is None:
        return f"{boottime_us / 1e6:14.6f}"
    return clock.utc(boottime_us) or f"{boottime_us / 1e6:{_WIDTH}.6f}"


def json_times(boottime_us: int, clock: WallClock | None) -> Mapping[str, object]:
    """Return the times of an entry for programs."""
    times = {"boottime_us": boottime_us}
    return times if clock is None else {**times, "utc": clock.utc(boottime_us)}
