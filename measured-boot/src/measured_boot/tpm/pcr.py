"""Registers of a TPM as they follow from events: one hash chain for each register.

A TPM's registers are those of its SHA-256 bank; the same events in SHA-384 make the registers of
TDX (`measured_boot.tdx.registers`), so an event carries both digests. `measured_boot.tpm.stub` and
`measured_boot.tpm.direct_boot` predict the events of a boot, `measured_boot.event_log` has those
that firmware logged.

Specification: TCG PC Client Platform Firmware Profile 1.06, sections 3.2 and 10; UEFI-independent
event types in its table 27.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NewType

PcrValue = NewType("PcrValue", bytes)
"""Content of a register, 32 bytes."""

EventDigest = NewType("EventDigest", bytes)
"""What an event extends a register of a TPM with, 32 bytes."""

WideDigest = NewType("WideDigest", bytes)
"""What the same event extends a register of TDX with: SHA-384, 48 bytes."""

DIGEST_BYTES: Final = 32
ZERO_PCR: Final = PcrValue(bytes(DIGEST_BYTES))
PREDICTED_REGISTERS: Final = (4, 9, 11)


class EventKind(IntEnum):
    """Types of events; only those that a predicted boot has, and the one that extends nothing."""

    NO_ACTION = 0x3
    SEPARATOR = 0x4
    TAG = 0x6
    IPL = 0xD
    BOOT_SERVICES_APPLICATION = 0x80000003
    ACTION = 0x80000007


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event that a boot will have.

    Attributes:
        register: number of the register that it extends.
        digest: what it extends it with.
        wide_digest: the same in SHA-384.
        subject: what was measured, for people.
    """

    register: int
    kind: EventKind
    digest: EventDigest
    wide_digest: WideDigest
    subject: str


def measure(
    register: int, kind: EventKind, pieces: Iterable[bytes | memoryview], subject: str
) -> Event:
    """Return the event that measures some bytes as they are, given in pieces."""
    narrow, wide = hashlib.sha256(), hashlib.sha384()
    for piece in pieces:
        narrow.update(piece)
        wide.update(piece)
    return Event(
        register=register,
        kind=kind,
        digest=EventDigest(narrow.digest()),
        wide_digest=WideDigest(wide.digest()),
        subject=subject,
    )


def extend(register: PcrValue, digest: bytes) -> PcrValue:
    """Return a register after one more event.

    Raises:
        ValueError: the digest is not one of SHA-256.
    """
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"{len(digest)} bytes are not a SHA-256 digest")
    return PcrValue(hashlib.sha256(register + digest).digest())


def replay(digests: Iterable[bytes]) -> PcrValue:
    """Return a register that began with zeros after all of these."""
    register = ZERO_PCR
    for digest in digests:
        register = extend(register, digest)
    return register


def replay_events(events: Iterable[Event]) -> dict[int, PcrValue]:
    """Return the predicted registers; those without an event are zero."""
    registers = dict.fromkeys(PREDICTED_REGISTERS, ZERO_PCR)
    for event in events:
        registers[event.register] = extend(registers[event.register], event.digest)
    return registers
