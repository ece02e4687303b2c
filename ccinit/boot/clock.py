"""The wall clock: none until the owner's KBS has told the time.

The host can set its clocks as it likes, so the guest never reads them. The first trusted time is
the `Date` of a KBS reply over pinned TLS; it must not be before the time of the image's lock file,
a constant in the measured image. Later replies set the clock forward, never back: a host can pause
the guest along with its clocks, unnoticed from inside, and a reply can arrive late but never early.
"""

import time

from ccinit.errors import VerificationError
from ccinit.kernel.clock import realtime, set_realtime

_LATEST = 4_102_444_800  # 2100-01-01: a Date beyond it must be a mistake


def read_build_time(path: str = "/usr/lib/ccinit/build_time") -> int:
    """Return the UTC second of the image's lock file."""
    with open(path, encoding="ascii") as file:
        return int(file.read())


def verify_time(seconds: int, floor: int) -> int:
    """Return `seconds` if that is a plausible time.

    Raises:
        VerificationError: `clock.floor` or `clock.ceiling`.
    """
    if seconds < floor:
        raise VerificationError("clock.floor", f"{seconds} is before the image was made, {floor}")
    if seconds > _LATEST:
        raise VerificationError("clock.ceiling", f"{seconds} is after the year 2100")
    return seconds


def set_clock(seconds: int, floor: int) -> None:
    """Set CLOCK_REALTIME to a verified time.

    Raises:
        VerificationError: as `verify_time`.
        KernelError: the kernel refused.
    """
    set_realtime(verify_time(seconds, floor))


def advance_clock(seconds: int) -> int:
    """Set a clock that ATTEST has already set forward to `seconds`; return by how many, or 0.

    Raises:
        VerificationError: `clock.ceiling`.
        KernelError: the kernel refused.
    """
    now = int(realtime())
    if seconds <= now:
        return 0
    set_realtime(verify_time(seconds, now))
    return seconds - now


def format_utc(seconds: int) -> str:
    """Return seconds since 1970 as people read them: `2026-11-28T15:30:00Z` (RFC 3339)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
