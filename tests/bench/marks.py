"""Marks of a boot: lines on the serial port, and when they came.

Only the measured guest writes there, lines such as `bench NAME NUMBER…`. The host looks every few
milliseconds, so one clock times all guests, whatever they are made of.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from ccinit.errors import DeadlineError
from host_runtime.launch.guest import Guest
from host_runtime.launch.launcher import GuestConfig, boot_guest
from tests.bench.measurement import BenchError

_PREFIX = b"bench "
_BOOT_SECONDS = 300.0
_POLL_SECONDS = 0.003


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One line.

    Attributes:
        milliseconds: since the machine was switched on.
        numbers: behind the name.
    """

    milliseconds: float
    numbers: tuple[float, ...]


def boot_until(config: GuestConfig, last: str) -> Mapping[str, Mark]:
    """Boot a guest until it has written `last`; return the marks by their names.

    Raises:
        BenchError: it did not in five minutes, or ended; the text has what it wrote.
    """
    marks: dict[str, Mark] = {}
    with boot_guest(config) as guest:
        serial = guest.files.sinks.serial
        seen = 0
        while last not in marks:
            elapsed = time.monotonic() - guest.started_at
            written = serial.read_bytes()
            seen = read_marks(marks, written, seen, elapsed * 1000)
            if elapsed > _BOOT_SECONDS or (last not in marks and _has_ended(guest)):
                raise BenchError(f"no mark {last!r}; the guest wrote {written[-500:]!r}")
    return marks


def _has_ended(guest: Guest) -> bool:
    """Wait a moment, and say whether the guest is gone."""
    with suppress(DeadlineError):
        guest.wait_for_end(_POLL_SECONDS)
        return True
    return False


def read_marks(marks: dict[str, Mark], written: bytes, seen: int, milliseconds: float) -> int:
    """Add the marks of the whole lines behind the first `seen` bytes; return how many are seen."""
    end = written.rfind(b"\n") + 1
    for line in written[seen:end].splitlines():
        _, found, rest = line.partition(_PREFIX)
        if found:
            name, *numbers = rest.decode("ascii", "replace").split()
            marks[name] = Mark(milliseconds=milliseconds, numbers=tuple(map(float, numbers)))
    return max(seen, end)
