"""The guest's own event log: what is measured while it runs, and the register that proves it.

Theory of operation. An event is *announced* before the thing happens that it tells of: it stands in
the log's memory as pending (that is the write-ahead rule of CoCo's event log; the file that CoCo
keeps for it is of no use here, where the log's process ends with the boot). Then a child extends
the register with every pending digest, and only when the register is seen to hold them all the
events are *settled* and become records. A child that ended half-way is repeated with the same
request: where it had come to is told by the register, whose value after each digest is known, so no
event is measured twice. While anything is pending the register may hold more than the records say,
so no evidence is to be made before that is settled. A register with any other value was extended by
somebody else; that is final, because the log would prove nothing any more: whoever has the
extending done ends the guest (`ccinit.agent.platform.measurement`).

Which events there are, and who does the extending, is decided by `ccinit.agent`.
"""

from collections.abc import Sequence

from ccinit.errors import LimitExceededError, VerificationError
from ccinit.formats.tcg.aael import AaelEvent
from ccinit.formats.tcg.event_log import Algorithm, encode_event, replay
from ccinit.measure.register import MeasurementRegister
from ccinit.values import frozen

MAX_LOG_BYTES = 64 * 1024
"""What evidence has room for, beside firmware's own log."""


@frozen
class Extension:
    """Digests to extend a register with, and its value before the first of them."""

    before: bytes
    digests: tuple[bytes, ...]


class EventLog:
    """The events of one register since the boot."""

    def __init__(self, register: int, algorithm: Algorithm) -> None:
        """Args: register: its number in records; algorithm: of the register, which is zero."""
        self._register = register
        self._algorithm = algorithm
        self._value = bytes(algorithm.digest_bytes)
        self._pending: list[AaelEvent] = []
        self._records = bytearray()

    @property
    def value(self) -> bytes:
        """What the register holds after the settled events."""
        return self._value

    @property
    def is_pending(self) -> bool:
        """Whether events are announced and not settled: the register may hold some of them."""
        return bool(self._pending)

    @property
    def records(self) -> bytes:
        """The settled events as records of the TCG's log form, without a header."""
        return bytes(self._records)

    def announce(self, events: Sequence[AaelEvent]) -> Extension:
        """Make events pending; return what the register is to be extended with.

        Raises:
            LimitExceededError: `event_log.full`.
        """
        pending = [*self._pending, *events]
        if len(self._records) + len(self._encode(pending)) > MAX_LOG_BYTES:
            raise LimitExceededError("event_log.full", f"more than {MAX_LOG_BYTES} bytes of events")
        self._pending = pending
        digests = tuple(event.digest(self._algorithm) for event in pending)
        return Extension(before=self._value, digests=digests)

    def settle(self, value: bytes) -> None:
        """Make the pending events records, now that the register was read.

        Raises:
            VerificationError: `event_log.register`, it does not hold them.
        """
        digests = (event.digest(self._algorithm) for event in self._pending)
        expected = replay(digests, self._algorithm, self._value)
        if value != expected:
            raise VerificationError("event_log.register", f"{value.hex()}, not {expected.hex()}")
        self._records += self._encode(self._pending)
        self._value = expected
        self._pending = []

    def _encode(self, events: Sequence[AaelEvent]) -> bytes:
        return b"".join(
            encode_event(event.to_logged_event(self._register, self._algorithm), self._algorithm)
            for event in events
        )


def extend_register(
    register: MeasurementRegister, extension: Extension, algorithm: Algorithm
) -> bytes:
    """Extend with those digests that are not in the register yet; return its value, read back.

    Raises:
        VerificationError: `event_log.register`: it holds something else.
    """
    values = [extension.before]
    for digest in extension.digests:
        values.append(replay((digest,), algorithm, values[-1]))
    value = register.read()
    if value not in values:
        raise VerificationError("event_log.register", f"somebody else extended it: {value.hex()}")
    for digest in extension.digests[values.index(value) :]:
        register.extend(digest)
    value = register.read()
    if value != values[-1]:
        raise VerificationError("event_log.register", f"{value.hex()}, not {values[-1].hex()}")
    return value
