"""Read the log that firmware keeps of its measurements, to say which one differs from a prediction.

A log proves nothing by itself: only its replay against a quoted register does, and registers are
what verifiers compare (`guest_owner.kbs`). Linux shows the log as
`/sys/kernel/security/tpm0/binary_bios_measurements`.

Specification: TCG PC Client Platform Firmware Profile 1.06, section 10 (crypto agile log).
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from ccinit.errors import FormatError, LimitExceededError
from measured_boot.pcr import (
    PREDICTED_REGISTERS,
    Event,
    EventDigest,
    EventKind,
    PcrValue,
    replay,
)

MAX_LOG_BYTES: Final = 4 * 1024 * 1024
_SIGNATURE: Final = b"Spec ID Event03\0"
_SHA1_BYTES: Final = 20
_SHA256: Final = 0x000B
_MAX_ALGORITHMS: Final = 16
_MAX_REGISTER: Final = 23
_SPEC_FIXED: Final = struct.Struct("<16sIBBBBI")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """One event as firmware has logged it.

    Attributes:
        register: number of the register.
        kind: type number; see `EventKind` for the ones that matter here.
        digest: of the SHA-256 bank.
        data: what the log says about it, which need not be what was measured.
    """

    register: int
    kind: int
    digest: EventDigest
    data: bytes


class _Cursor:
    """Reads little-endian fields, never past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def is_at_end(self) -> bool:
        return self._position == len(self._data)

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise FormatError("event_log.length", f"an event ends behind the log, at {end}")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")


def parse_event_log(data: bytes) -> tuple[LoggedEvent, ...]:
    """Return all events that extend a register, in order.

    Raises:
        FormatError: with a reason below `event_log`.
    """
    if len(data) > MAX_LOG_BYTES:
        raise LimitExceededError("event_log.length", f"more than {MAX_LOG_BYTES} bytes")
    cursor = _Cursor(data)
    sizes = _read_header(cursor)
    events = []
    while not cursor.is_at_end():
        event = _read_event(cursor, sizes)
        if event.kind != EventKind.NO_ACTION:
            events.append(event)
    return tuple(events)


def replay_log(events: Iterable[LoggedEvent], register: int) -> PcrValue:
    """Return the value that a register has if these events are all that extended it."""
    return replay(event.digest for event in events if event.register == register)


def _read_header(cursor: _Cursor) -> dict[int, int]:
    """Return the digest size of each algorithm of the log."""
    register, kind = cursor.u32(), cursor.u32()
    cursor.take(_SHA1_BYTES)
    content = _Cursor(cursor.take(cursor.u32()))
    signature, _, _, major, _, _, count = _SPEC_FIXED.unpack(content.take(_SPEC_FIXED.size))
    if (register, kind, signature, major) != (0, EventKind.NO_ACTION, _SIGNATURE, 2):
        raise FormatError("event_log.header", "not a crypto agile event log")
    if count > _MAX_ALGORITHMS:
        raise LimitExceededError("event_log.header", f"{count} algorithms")
    sizes = {content.u16(): content.u16() for _ in range(count)}
    if sizes.get(_SHA256) != len(EventDigest(bytes(32))):
        raise FormatError("event_log.header", "the log has no SHA-256 digests")
    return sizes


def _read_event(cursor: _Cursor, sizes: dict[int, int]) -> LoggedEvent:
    register, kind, count = cursor.u32(), cursor.u32(), cursor.u32()
    if register > _MAX_REGISTER:
        raise FormatError("event_log.register", f"no register {register}")
    if count > len(sizes):
        raise FormatError("event_log.digests", f"{count} digests for {len(sizes)} algorithms")
    digests = {}
    for _ in range(count):
        algorithm = cursor.u16()
        if algorithm not in sizes:
            raise FormatError("event_log.digests", f"algorithm {algorithm:#06x} is not in the log")
        digests[algorithm] = cursor.take(sizes[algorithm])
    if _SHA256 not in digests:
        raise FormatError("event_log.digests", "an event has no SHA-256 digest")
    data = cursor.take(cursor.u32())
    return LoggedEvent(
        register=register, kind=kind, digest=EventDigest(digests[_SHA256]), data=data
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first event of a register that is not as predicted; None where one side has no more."""

    register: int
    position: int
    predicted: Event | None
    logged: LoggedEvent | None

    @property
    def logged_digest(self) -> str:
        """The logged digest as text."""
        return "nothing more" if self.logged is None else self.logged.digest.hex()


def find_differences(
    predicted: Iterable[Event], logged: Iterable[LoggedEvent]
) -> tuple[Difference, ...]:
    """Return the first difference of each predicted register, in the order of registers."""
    expected, actual = tuple(predicted), tuple(logged)
    differences = []
    for register in PREDICTED_REGISTERS:
        pairs = zip_longest(
            (event for event in expected if event.register == register),
            (event for event in actual if event.register == register),
        )
        for position, (ours, theirs) in enumerate(pairs):
            if ours is None or theirs is None or ours.digest != theirs.digest:
                differences.append(
                    Difference(register=register, position=position, predicted=ours, logged=theirs)
                )
                break
    return tuple(differences)
