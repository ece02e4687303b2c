"""The TCG's crypto agile event log: what firmware, and after it the guest, measured into registers.

One legacy record names the digest algorithms; each record after it is a TCG_PCR_EVENT2. A TPM's log
(registers are PCRs) and the log of a confidential VM that the ACPI table CCEL points to (registers
are its measurement registers, numbered from 1: TDX's RTMR 0 to 3) have the same format. A log
proves nothing by itself: only its replay against a quoted register does.

TCG PC Client Platform Firmware Profile 1.06, section 10 (10.4.5 for what a TPM's startup leaves in
PCR 0); UEFI 2.10, section 38.4.1 (CC event log).
"""

import hashlib
import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.byte_reader import LittleEndianReader
from ccinit.values import frozen

MAX_LOG_BYTES: Final = 4 * 1024 * 1024
MAX_REGISTER: Final = 23
NO_ACTION: Final = 3  # EV_NO_ACTION extends nothing
NO_REGISTER: Final = 0xFFFFFFFF  # such an event may say so
END_OF_RECORDS: Final = b"\xff" * 8
"""What follows the last record of a CC event log; eight zeros (unused memory) mean the same."""

_SIGNATURE: Final = b"Spec ID Event03\0"
_STARTUP_LOCALITY: Final = b"StartupLocality\0"
_LOCALITIES: Final = (0, 3, 4)
_SHA1_BYTES: Final = 20
_MAX_ALGORITHMS: Final = 16
_SPEC_FIXED: Final = struct.Struct("<16sIBBBBI")


class Algorithm(IntEnum):
    """TPM_ALG_ID of the digests that registers are made of."""

    SHA256 = 0x000B
    SHA384 = 0x000C

    @property
    def digest_bytes(self) -> int:
        """Length of a digest, and of a register."""
        return 32 if self is Algorithm.SHA256 else 48

    def hash(self, data: bytes) -> bytes:
        """Return the digest of `data`."""
        return hashlib.new(self.name.lower(), data).digest()


# Of the header, which extends nothing: EDK2 has 1 in a trust domain, its number for what is PCR 0.
_HEADER_REGISTERS: Final = {Algorithm.SHA256: (0,), Algorithm.SHA384: (0, 1)}


@frozen
class LoggedEvent:
    """One record.

    Attributes:
        register: its number in this log.
        kind: event type number.
        digest: by the algorithm that was asked for.
        data: the log's description of what was measured, not always the measured bytes.
    """

    register: int
    kind: int
    digest: bytes
    data: bytes


@frozen
class EventLog:
    """A whole log.

    Attributes:
        events: those that extend a register, in order.
        records: the log's bytes up to its end marker.
        startup_locality: the locality that started the TPM, which is the initial value of PCR 0.
    """

    events: tuple[LoggedEvent, ...]
    records: bytes
    startup_locality: int = 0

    def replay(self, register: int, algorithm: Algorithm) -> bytes:
        """Return the value of a register that only these events have extended."""
        digests = (event.digest for event in self.events if event.register == register)
        locality = self.startup_locality if register == 0 else 0
        return replay(digests, algorithm, locality.to_bytes(algorithm.digest_bytes, "big"))


def parse_event_log(data: bytes, algorithm: Algorithm, *, end_marker: bool = False) -> EventLog:
    """Read a log.

    Args:
        data: untrusted.
        algorithm: every event must have a digest of it.
        end_marker: whether the records may end before the bytes do, as CCEL's do.

    Raises:
        FormatError: `event_log.header`, `event_log.register`, `event_log.digests`,
            `event_log.locality`, `event_log.truncated`.
        LimitExceededError: `event_log.length`, `event_log.header`.
    """
    if len(data) > MAX_LOG_BYTES:
        raise LimitExceededError("event_log.length", f"more than {MAX_LOG_BYTES} bytes")
    reader = LittleEndianReader(data, "event_log")
    sizes = _read_header(reader, algorithm)
    events: list[LoggedEvent] = []
    silent: list[LoggedEvent] = []
    while reader.remaining and not (end_marker and _is_end(reader.peek(len(END_OF_RECORDS)))):
        event = _read_event(reader, sizes, algorithm)
        (silent if event.kind == NO_ACTION else events).append(event)
    return EventLog(
        events=tuple(events),
        records=data[: reader.offset],
        startup_locality=_read_startup_locality(silent),
    )


def replay(digests: Iterable[bytes], algorithm: Algorithm, start: bytes | None = None) -> bytes:
    """Return the value of a register that was zero, or `start`, and extended with `digests`."""
    register = bytes(algorithm.digest_bytes) if start is None else start
    for digest in digests:
        register = algorithm.hash(register + digest)
    return register


def encode_event(event: LoggedEvent, algorithm: Algorithm) -> bytes:
    """Encode a TCG_PCR_EVENT2 with one digest."""
    return (
        struct.pack("<IIIH", event.register, event.kind, 1, algorithm)
        + event.digest
        + struct.pack("<I", len(event.data))
        + event.data
    )


def encode_header(algorithm: Algorithm) -> bytes:
    """Encode the first record of a log whose events have digests of one algorithm."""
    content = _SPEC_FIXED.pack(_SIGNATURE, 0, 0, 2, 0, 2, 1)
    content += struct.pack("<HHB", algorithm, algorithm.digest_bytes, 0)
    return struct.pack("<II20xI", 0, NO_ACTION, len(content)) + content


def _is_end(following: bytes) -> bool:
    return following in (END_OF_RECORDS, bytes(len(END_OF_RECORDS))) or (
        len(following) < len(END_OF_RECORDS) and not any(following)
    )


def _read_header(reader: LittleEndianReader, algorithm: Algorithm) -> dict[int, int]:
    """Return the digest size of each algorithm of the log."""
    register, kind = reader.u32(), reader.u32()
    if kind != NO_ACTION:  # checked before a length is used that may be something else
        raise FormatError("event_log.header", "not a crypto agile event log")
    reader.take(_SHA1_BYTES)
    content = LittleEndianReader(reader.take(reader.u32()), "event_log")
    signature, _, _, major, _, _, count = _SPEC_FIXED.unpack(content.take(_SPEC_FIXED.size))
    if (signature, major) != (_SIGNATURE, 2):
        raise FormatError("event_log.header", "not a crypto agile event log")
    if register not in _HEADER_REGISTERS[algorithm]:
        raise FormatError("event_log.header", f"a header of register {register}")
    if count > _MAX_ALGORITHMS:
        detail = f"expected at most {_MAX_ALGORITHMS} algorithms, found {count}"
        raise LimitExceededError("event_log.header", detail)
    sizes = {content.u16(): content.u16() for _ in range(count)}
    if sizes.get(algorithm) != algorithm.digest_bytes:
        raise FormatError("event_log.header", f"the log has no {algorithm.name} digests")
    return sizes


def _read_startup_locality(silent: Iterable[LoggedEvent]) -> int:
    """Return the locality of the only Startup Locality event; 0 if there is none."""
    found = [event for event in silent if event.data.startswith(_STARTUP_LOCALITY)]
    if not found:
        return 0
    locality = found[0].data[len(_STARTUP_LOCALITY) :]
    if len(found) > 1 or found[0].register != 0 or len(locality) != 1:
        raise FormatError("event_log.locality", "expected one startup locality, for PCR 0")
    if locality[0] not in _LOCALITIES:
        raise FormatError("event_log.locality", f"a TPM is not started from locality {locality[0]}")
    return locality[0]


def _read_event(
    reader: LittleEndianReader, sizes: dict[int, int], wanted: Algorithm
) -> LoggedEvent:
    register, kind, count = reader.u32(), reader.u32(), reader.u32()
    if register > MAX_REGISTER and (register, kind) != (NO_REGISTER, NO_ACTION):
        raise FormatError("event_log.register", f"no register {register}")
    if count > len(sizes):
        raise FormatError("event_log.digests", f"{count} digests for {len(sizes)} algorithms")
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = reader.u16()
        if algorithm not in sizes or algorithm in digests:
            raise FormatError("event_log.digests", f"algorithm {algorithm:#06x} is out of place")
        digests[algorithm] = reader.take(sizes[algorithm])
    if wanted not in digests:
        raise FormatError("event_log.digests", f"an event has no {wanted.name} digest")
    data = reader.take(reader.u32())
    return LoggedEvent(register=register, kind=kind, digest=digests[wanted], data=data)
