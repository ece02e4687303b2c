"""The guest's own event log: what is measured while it runs, and the register that proves it.

Theory of operation. An event is *announced* before what it reports happens, and is then pending in
memory. (This is the write-ahead rule of CoCo's event log; the file that CoCo writes for it would be
useless here, where the log's process ends with the boot.) Then a child extends the register with
every pending digest, and only once the register is seen to hold them all are the events *settled*
and become records. If a child ends half-way, another gets the same request: the register's value
after each digest is known, so it shows how far the first one came, and no event is measured twice.
While events are pending, the register may hold more than the records say, so no evidence may be
made. A register with any other value was extended by somebody else. That is final, because the log
would no longer prove anything: `ccinit.agent.platform.measurement` ends the guest.

`ccinit.agent` decides which events there are, and has the register extended.
"""

from collections.abc import Sequence

from ccinit.errors import LimitExceededError, VerificationError
from ccinit.formats.tcg.aael import AaelEvent
from ccinit.formats.tcg.event_log import Algorithm, encode_event, replay
from ccinit.measure.register import MeasurementRegister
from ccinit.values import frozen

MAX_LOG_BYTES = 64 * 1024
"""What evidence has room for, in addition to the firmware's log."""


@frozen
class Extension:
    """Digests to extend into a register, and its value before the first of them."""

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
        """The register's value after the settled events."""
        return self._value

    @property
    def is_pending(self) -> bool:
        """Whether events are announced but not settled: the register may hold some of them."""
        return bool(self._pending)

    @property
    def records(self) -> bytes:
        """The settled events as records of the TCG event log format, without a header."""
        return bytes(self._records)

    def announce(self, events: Sequence[AaelEvent]) -> Extension:
        """Make events pending; return what to extend into the register.

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
        """Turn the pending events into records; `value` was read from the register.

        Raises:
            VerificationError: `event_log.register`, the register does not hold exactly these.
        """
        digests = (event.digest(self._algorithm) for event in self._pending)
        expected = replay(digests, self._algorithm, self._value)
        if value != expected:
            raise VerificationError(
                "event_log.register", f"expected {expected.hex()}, found {value.hex()}"
            )
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
    """Extend the register with the digests that it does not hold yet; return its value, read back.

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
        raise VerificationError(
            "event_log.register", f"expected {values[-1].hex()}, found {value.hex()}"
        )
    return value
