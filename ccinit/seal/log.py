"""The guest's log: one object that never blocks, never fails and never says more than it may.

Scope: what may enter the sealed stream in which state (DESIGN section 5, "Any failure"); cutting
and capping of entries (R93); room for the guest's final entries when workloads fill the ring (R91);
and batches, which hide from the host how much is written when. Left to others: ciphers
(`ccinit.seal.stream`), the evidence (its bytes are given), reading pipes and /dev/kmsg, and when
the next batch or signature is due (PID 1's loop).

    DISCARDING   no owner key yet: everything is counted and discarded
    UNBOUND      the key is known, the evidence is not: public codes wait
    PUBLIC       before attestation the key may be the host's: public codes only
    PRIVATE      the owner's shared key is mixed in: everything
    ENDED        closed: everything is discarded

Payloads are bytes and stay bytes: nothing here decodes, trims or interprets them.
"""

from collections.abc import Callable, Iterator
from enum import IntEnum, auto

from ccinit.annotations import TYPE_CHECKING, Final
from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.formats.sealed_log import (
    MAX_ENTRY_BYTES,
    MAX_EVIDENCE_BYTES,
    MAX_SOURCE_BYTES,
    MIN_PSK_BYTES,
    SIGNED_AT_LEAST_EVERY,
    BootId,
    Kind,
    Record,
    SizeClass,
    plan_pieces,
    report_data,
)
from ccinit.kernel.clock import boottime_us
from ccinit.seal.recent import RecentEntries
from ccinit.seal.ring import SealedRing
from ccinit.secret import Secret

if TYPE_CHECKING:
    from ccinit.seal.stream import SealedStream

MAX_REPORT_BYTES: Final = 60 << 10
_MAX_WAITING_CODES: Final = 64

# room that containers' output leaves for events, and events for the end (report, END, signatures)
_CLOSING_RESERVE: Final = SizeClass.LARGE.wire_bytes + 16 * SizeClass.SMALL.wire_bytes
_EVENT_RESERVE: Final = 128 << 10
_ENDING_BYTES: Final = 2 * SizeClass.SMALL.wire_bytes  # END and its signature
MIN_CAPACITY: Final = 1 << 20
_RECENT_BYTES: Final = 1 << 20
_BULK_KINDS: Final = frozenset({Kind.STDOUT, Kind.STDERR, Kind.KERNEL, Kind.RUNTIME})
_ENTRY_KINDS: Final = _BULK_KINDS | {Kind.EVENT}

OWN_SOURCE: Final = "ccinit"
"""Source of events that the guest itself causes.

Events that others can cause as often as they like get no part of the room reserved for these.
"""


class LogState(IntEnum):
    """What may be logged; states follow each other in this order."""

    DISCARDING = auto()
    UNBOUND = auto()
    PUBLIC = auto()
    PRIVATE = auto()
    ENDED = auto()


class SealedLog:
    """The log of this boot.

    Attributes:
        ring: sealed bytes for RPC `collect`.
        recent: entries in clear for the owner plane.
        dropped: entries discarded so far.
        binding: the report data of the evidence that vouches for this log; empty before `open`.
    """

    def __init__(self, *, clock: Callable[[], int] = boottime_us) -> None:
        """Args: clock: boot time in microseconds."""
        self.ring: Final = SealedRing(MIN_CAPACITY)
        self.recent: Final = RecentEntries(_RECENT_BYTES)
        self.dropped = 0
        self.binding = b""
        self.state = LogState.DISCARDING
        self._clock = clock
        self._stream: SealedStream | None = None
        self._batch_bytes = 0
        self._waiting: list[tuple[int, bytes]] = []

    def arrange(self, *, capacity: int, batch_bytes: int = 0) -> None:
        """Set the owner's sizes, before the stream begins.

        Args:
            capacity: bytes of the ring.
            batch_bytes: how many bytes `release_batch` shows, a multiple of the smallest record;
                0 shows each record as it comes.
        """
        if self.state is not LogState.DISCARDING:
            raise RuntimeError("the log is open")
        if capacity < MIN_CAPACITY or batch_bytes % SizeClass.SMALL.wire_bytes:
            raise LimitExceededError("seal.capacity", f"{capacity} and {batch_bytes} bytes")
        self.ring.capacity = capacity
        self._batch_bytes = batch_bytes

    def open(self, owner_key: bytes, boot_id: BootId) -> None:
        """Begin the stream.

        Raises:
            FormatError: `seal.owner_key`; the log stays as it was.
        """
        if self.state is not LogState.DISCARDING:
            raise RuntimeError("the log is open")
        # load ciphers only once there is a key to use, not when PID 1 starts
        from ccinit.seal.stream import open_stream  # noqa: PLC0415

        self._stream = open_stream(owner_key, boot_id)
        self.ring.append(self._stream.header)
        if self._batch_bytes:
            self.ring.release(self.ring.end)
        self.binding = report_data(boot_id, self._stream.public_key)
        self.state = LogState.UNBOUND

    def bind(self, evidence: bytes) -> None:
        """Write record 1; empty evidence says that none could be obtained.

        Raises:
            LimitExceededError: `seal.evidence`.
        """
        stream = self._stream
        if self.state is not LogState.UNBOUND or stream is None:
            raise RuntimeError("the evidence follows the opening, once")
        if len(evidence) > MAX_EVIDENCE_BYTES:
            raise LimitExceededError("seal.evidence", f"{len(evidence)} bytes")
        now = self._clock()
        self.ring.append(stream.evidence_records(evidence, boottime_us=now, dropped=self.dropped))
        self.state = LogState.PUBLIC
        waiting, self._waiting = self._waiting, []
        for when, data in waiting:
            self._write(Kind.CODE, "", data, when)

    def mix(self, psk: Secret) -> None:
        """Bind the rest of the stream to the owner's shared key; from here on texts are logged.

        Raises:
            FormatError: `seal.psk`, it is too short to be secure.
        """
        stream = self._stream
        if self.state is not LogState.PUBLIC or stream is None:
            raise RuntimeError("the shared key follows the evidence, once")
        if len(psk) < MIN_PSK_BYTES:
            raise FormatError(
                "seal.psk", f"expected at least {MIN_PSK_BYTES} bytes, found {len(psk)}"
            )
        self._sign_if_due(stream)
        self.ring.append(stream.mix_record(psk, boottime_us=self._clock(), dropped=self.dropped))
        self.state = LogState.PRIVATE

    def public_event(self, phase: Phase, code: Code) -> bool:
        """Log two numbers that the host learns anyway; allowed as soon as a stream exists."""
        data = bytes((phase, code))
        now = self._clock()
        self.recent.append(now, Kind.CODE, "", data)
        if self.state is LogState.UNBOUND and len(self._waiting) < _MAX_WAITING_CODES:
            self._waiting.append((now, data))
            return True
        if self.state in {LogState.PUBLIC, LogState.PRIVATE}:
            return self._write(Kind.CODE, "", data, now)
        self.dropped += 1
        return False

    def append(self, kind: Kind, source: str, payload: bytes) -> bool:
        """Log `payload` if the state allows it and there is room, else count it as dropped.

        Args:
            kind: EVENT, STDOUT, STDERR, KERNEL or RUNTIME.
            source: container name or part of the guest, at most 63 bytes.
            payload: any bytes; split into as many entries and records as it takes.

        Returns:
            Whether all of it was sealed.
        """
        if kind not in _ENTRY_KINDS or len(source.encode()) > MAX_SOURCE_BYTES:
            raise RuntimeError("not an entry that others write")
        now = self._clock()
        sealed = True
        for part in _parts(payload):
            self.recent.append(now, kind, source, part)
            if self.state is LogState.PRIVATE:
                sealed = self._write(kind, source, part, now) and sealed
            else:
                self.dropped += 1
                sealed = False
        return sealed

    def sign(self) -> None:
        """Sign the stream so far, so that the owner need not wait for the 64th record."""
        stream = self._stream
        if stream is None or self.state not in {LogState.PUBLIC, LogState.PRIVATE}:
            return
        if self.ring.room >= _CLOSING_RESERVE + self._batch_bytes:
            self._sign(stream)

    def release_batch(self) -> None:
        """Show readers the next batch, padded if less was written.

        Nothing is shown before the evidence is written, nor while a quarter of the ring is unread;
        otherwise every call shows the same number of bytes. Neither condition depends on what the
        pod writes, and the rest of the ring has room for the padding.
        """
        behind = self.ring.unread >= self.ring.capacity // 4
        if behind or self.state not in {LogState.PUBLIC, LogState.PRIVATE}:
            return
        self._fill(self._batch_bytes - (self.ring.end - self.ring.released))
        self.ring.release(self.ring.released + self._batch_bytes)

    def close(self, report: bytes = b"") -> None:
        """End the stream and forget its keys; `report` says why, and is kept only if allowed.

        Whatever is left is shown at once, in whole batches. Before the log is private, the report
        is dropped like every text. May be called in any state.
        """
        stream = self._stream
        if stream is not None and self.state is not LogState.ENDED:
            if self.state is LogState.UNBOUND:
                self.bind(b"")
            if report and self.state is LogState.PRIVATE:
                self._write(Kind.REPORT, "", report[:MAX_REPORT_BYTES], self._clock())
            elif report:
                self.dropped += 1
            self._sign_if_due(stream)
            self._fill_last_batch()
            self.ring.append(stream.end_records(boottime_us=self._clock(), dropped=self.dropped))
        self.state = LogState.ENDED
        self._stream = None
        self.ring.close()

    def _write(self, kind: Kind, source: str, data: bytes, when: int) -> bool:
        stream = self._stream
        if stream is None:
            raise RuntimeError("the log is not open")
        pieces = tuple(plan_pieces(len(data), source))
        # a signature may be due before each piece
        needed = sum(piece.size_class.wire_bytes for piece in pieces)
        needed += SizeClass.SMALL.wire_bytes * (len(pieces) // (SIGNED_AT_LEAST_EVERY - 1) + 1)
        if self.ring.room < needed + _reserve(kind, source) + self._batch_bytes:
            self.dropped += 1
            return False
        for piece in pieces:
            self._sign_if_due(stream)
            record = Record(
                boottime_us=when,
                kind=kind,
                source=source,
                dropped=self.dropped,
                data=data[piece.start : piece.stop],
                more=not piece.last,
            )
            self.ring.append(stream.record(record, piece.size_class))
        return True

    def _fill(self, count: int) -> None:
        """Write `count` bytes of padding, from which the owner learns that the guest lives."""
        stream = self._stream
        if stream is None or count <= 0:
            return
        self._sign(stream)
        end = self.ring.end + count - SizeClass.SMALL.wire_bytes
        while (rest := end - self.ring.end) > 0:
            size_class = max(one for one in SizeClass if one.wire_bytes <= rest)
            fill = Record(
                boottime_us=self._clock(),
                kind=Kind.FILL,
                source="",
                dropped=self.dropped,
                data=b"",
            )
            self.ring.append(stream.record(fill, size_class))

    def _fill_last_batch(self) -> None:
        if self._batch_bytes:
            backlog = self.ring.end - self.ring.released + _ENDING_BYTES
            self._fill(-backlog % self._batch_bytes)

    def _sign_if_due(self, stream: "SealedStream") -> None:
        if stream.signature_due:
            self._sign(stream)

    def _sign(self, stream: "SealedStream") -> None:
        self.ring.append(stream.signature_record(boottime_us=self._clock(), dropped=self.dropped))


def _parts(payload: bytes) -> Iterator[bytes]:
    if len(payload) <= MAX_ENTRY_BYTES:
        yield payload
        return
    for start in range(0, len(payload), MAX_ENTRY_BYTES):
        yield payload[start : start + MAX_ENTRY_BYTES]


def _reserve(kind: Kind, source: str) -> int:
    if kind is Kind.REPORT:
        return 4 * SizeClass.SMALL.wire_bytes
    if kind in _BULK_KINDS or (kind is Kind.EVENT and source != OWN_SOURCE):
        return _CLOSING_RESERVE + _EVENT_RESERVE
    return _CLOSING_RESERVE
