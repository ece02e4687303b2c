"""Read the clock since boot, set the wall clock. `boot` decides whose time to trust."""

import time

from ccinit.kernel.libc import kernel_error


def boottime() -> float:
    """Return the seconds since boot, suspension included; no program can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def realtime() -> float:
    """Return the seconds since 1970 by the wall clock, which ATTEST sets; not for deadlines."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def boottime_us() -> int:
    """Return the microseconds since boot, suspension included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def set_realtime(seconds: int) -> None:
    """Set the wall clock to `seconds` after 1970, UTC.

    Raises:
        KernelError: not allowed to, or out of range.
    """
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, seconds * 1_000_000_000)
    except OSError as error:
        raise kernel_error(error, "clock_settime", "CLOCK_REALTIME") from error
