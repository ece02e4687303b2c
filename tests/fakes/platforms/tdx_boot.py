"""A trust domain after a direct boot: the event log that firmware leaves, and its registers."""

import hashlib
import struct
from dataclasses import dataclass, field

from tests.fakes.platforms.event_logs import SHA384, log_event, log_header
from tests.fakes.platforms.tdx_quote import FakeTdx, measurement

HANDOFF, VARIABLE, APPLICATION, ACTION = 0x8000000B, 0x80000001, 0x80000003, 0x80000007
SEPARATOR, CONFIG_FLAGS, EVENT_TAG = 0x4, 0xA, 0x6


@dataclass(frozen=True)
class Measured:
    """One event; `register` is that of the log: RTMR + 1."""

    register: int
    kind: int
    digest: bytes
    data: bytes = b"what firmware says of it"


def configuration(machine: str) -> list[Measured]:
    """What differs from machine to machine: RTMR 0."""
    return [
        Measured(1, HANDOFF, measurement(f"memory map of {machine}")),
        Measured(1, VARIABLE, measurement("SecureBoot")),
        Measured(1, SEPARATOR, hashlib.sha384(bytes(4)).digest()),
        Measured(1, CONFIG_FLAGS, measurement(f"ACPI tables of {machine}")),
    ]


def image(name: str) -> list[Measured]:
    """What follows from the image: RTMR 1 and 2."""
    return [
        Measured(2, APPLICATION, measurement(f"kernel of {name}")),
        Measured(2, ACTION, measurement("Exit Boot Services Invocation")),
        Measured(3, EVENT_TAG, measurement(f"command line of {name}")),
        Measured(3, EVENT_TAG, measurement(f"initrd of {name}")),
    ]


def own_event(text: str) -> Measured:
    """An event of the guest's own (AAEL): RTMR 3."""
    data = b"LEAA" + struct.pack("<I", len(text)) + text.encode()
    return Measured(4, EVENT_TAG, hashlib.sha384(data).digest(), data)


def replayed(events: list[Measured], rtmr: int) -> bytes:
    value = bytes(48)
    for event in events:
        if event.register == rtmr + 1:
            value = hashlib.sha384(value + event.digest).digest()
    return value


@dataclass
class FakeBoot:
    """Events in order; tests change them, or the registers afterwards."""

    events: list[Measured] = field(
        default_factory=lambda: [*configuration("this machine"), *image("image-1")]
    )

    @property
    def log(self) -> bytes:
        return (
            log_header(((SHA384, 48),), register=1)  # as EDK2 writes it
            + b"".join(
                log_event(event.register, {SHA384: event.digest}, event.kind, event.data)
                for event in self.events
            )
            + b"\xff" * 8
        )

    def apply(self, domain: FakeTdx) -> FakeTdx:
        """Put the registers that these events make into a domain."""
        domain.rtmrs = [replayed(self.events, rtmr) for rtmr in range(4)]
        return domain
