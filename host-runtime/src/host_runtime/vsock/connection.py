"""One vsock connection as a state machine without I/O (virtio 1.2, 5.10.6.3 to 5.10.6.6).

Theory of operation. The guest's packets go in through `receive`; packets for the guest come out of
`next_packet`, only when the guest has a buffer for one. A connection does not queue packets but
remembers what it still has to say (a response, a reset, a shutdown, its credit), so a guest that
asks much and reads nothing cannot make it grow. Bytes in both directions wait in two buffers, each
limited by a side's credit:

    local end ──from_local──▶ next_packet ──▶ guest       at most the guest's credit in flight
    local end ◀──to_local──── receive     ◀── guest       at most ours; more is a reset

    phase      REQUEST        RESPONSE    RW, credit    SHUTDOWN       RST
    (none)     new, OPENING   RST         RST           RST            -
    OPENING    RST            RST         RST           RST            end
    REQUESTED  RST            OPEN        RST           RST            end
    OPEN       RST            RST         OPEN          OPEN or end    end

"end" with undelivered bytes is DRAINING: the table forgets the connection, which remains until the
local end has taken them. `host_runtime.vsock.connections` has all connections of a guest,
`host_runtime.vsock.endpoints` the sockets.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from host_runtime.vsock.packets import (
    BOTH_WAYS,
    HOST_CID,
    TYPE_STREAM,
    Operation,
    PacketHeader,
    Shutdown,
)

_COUNTER_MASK: Final = 0xFFFFFFFF
# An object of Python's costs some fifty bytes: a guest that sends byte by byte must not make its
# credit cost that much for each. Joining costs a copy of at most this for a packet.
_JOINED_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class VsockLimits:
    """What one guest may make the device hold."""

    connections: int = 64  # the agent allows 4; the rest is for its relay streams and for tests
    receive_bytes: int = 256 * 1024  # our credit per connection: four of Linux's largest packets
    send_bytes: int = 64 * 1024  # read ahead from a local end, so one full packet's worth
    pending_resets: int = 128  # one per ring entry; when full, the guest's ring is not read


class Phase(StrEnum):
    """Where a connection stands."""

    OPENING = "opening"  # the guest asked, the local end is not connected yet
    REQUESTED = "requested"  # we asked, the guest has not answered yet
    OPEN = "open"
    DRAINING = "draining"  # over for the guest; bytes for the local end are left
    CLOSED = "closed"


class Connection:
    """One stream between a local end and a guest's port; see the module's docstring."""

    def __init__(
        self,
        *,
        guest_cid: int,
        local_port: int,
        guest_port: int,
        number: int,
        phase: Phase,
        limits: VsockLimits,
    ) -> None:
        self.guest_cid = guest_cid
        self.local_port = local_port
        self.guest_port = guest_port
        self.number = number
        self.phase = phase
        self.to_local: deque[bytes] = deque()
        self.from_local = bytearray()
        self.is_answered = False  # the guest took what we asked for, whatever became of it
        self.local_ended = False  # the local end sends no more
        self.guest_ended = Shutdown(0)
        self._limits = limits
        self._shutdown_sent = Shutdown(0)
        self._owed: Operation | None = Operation.REQUEST if phase is Phase.REQUESTED else None
        self._credit_owed = False
        self._sent = self._received = self._forwarded = self._announced = 0
        self._guest_buffer = self._guest_forwarded = 0

    def guest_credit(self) -> int:
        """How many bytes the guest is still willing to take; 0, and not less, if it lies."""
        in_flight = (self._sent - self._guest_forwarded) & _COUNTER_MASK
        return max(0, self._guest_buffer - in_flight)

    def receive_credit(self, header: PacketHeader) -> None:
        """Note the guest's receive space, which every packet carries."""
        self._guest_buffer = header.buffer_bytes
        self._guest_forwarded = header.forwarded_bytes

    @property
    def is_known_to_guest(self) -> bool:
        """Whether the guest would notice a reset."""
        if self.phase is Phase.REQUESTED:
            return self._owed is None
        return self.phase in (Phase.OPENING, Phase.OPEN)

    def wants_local_bytes(self) -> int:
        """How many bytes to read from the local end now."""
        if self.phase not in (Phase.REQUESTED, Phase.OPEN) or self.local_ended:
            return 0
        if self.guest_ended & Shutdown.RECEIVE:
            return 0
        return max(0, self._limits.send_bytes - len(self.from_local))

    def local_data(self, data: bytes) -> None:
        """Bytes were read from the local end; none means that it will send no more."""
        if data:
            self.from_local += data
        else:
            self.local_ended = True

    def forwarded(self, count: int) -> None:
        """`count` bytes were taken by the local end: the guest gets their credit back."""
        self._forwarded = (self._forwarded + count) & _COUNTER_MASK
        unannounced = (self._forwarded - self._announced) & _COUNTER_MASK
        if unannounced >= self._limits.receive_bytes // 2:
            self._credit_owed = True

    def accept(self) -> None:
        """The local end of a connection that the guest asked for is there."""
        self.phase = Phase.OPEN
        self._owed = Operation.RESPONSE

    def has_output(self) -> bool:
        """Whether `next_packet` has something to say now."""
        if self._owed is not None or self._credit_owed:
            return True
        if self.phase is not Phase.OPEN:
            return False
        if self.from_local:
            return self.guest_credit() > 0
        return self.local_ended and not self._shutdown_sent

    def next_packet(self, room: int) -> tuple[PacketHeader, bytes]:
        """Return the next packet, with at most `room` bytes of payload; `has_output` was true."""
        payload = b""
        flags = Shutdown(0)
        if self._owed is not None:
            operation, self._owed = self._owed, None
        elif self._credit_owed:
            operation = Operation.CREDIT_UPDATE
        elif self.from_local:
            operation = Operation.RW
            count = min(room, self.guest_credit(), len(self.from_local))
            payload = bytes(self.from_local[:count])
            del self.from_local[:count]
            self._sent = (self._sent + count) & _COUNTER_MASK
        else:
            operation = Operation.SHUTDOWN
            flags = self._shutdown_sent = Shutdown.SEND
        self._credit_owed = False
        self._announced = self._forwarded
        header = PacketHeader(
            source_cid=HOST_CID,
            destination_cid=self.guest_cid,
            source_port=self.local_port,
            destination_port=self.guest_port,
            length=len(payload),
            kind=TYPE_STREAM,
            operation=operation,
            flags=flags,
            buffer_bytes=self._limits.receive_bytes,
            forwarded_bytes=self._forwarded,
        )
        return header, payload

    def receive(self, header: PacketHeader, payload: bytes) -> bool:
        """Take one packet of this connection; False asks for a reset.

        A reset *from* the guest ends the connection and needs no answer.
        """
        self.receive_credit(header)
        match (self.phase, header.operation):
            case (_, Operation.RST):
                self.end()
            case (Phase.REQUESTED, Operation.RESPONSE):
                self.phase = Phase.OPEN
                self.is_answered = True
            case (Phase.OPEN, Operation.RW):
                return self._receive_data(payload)
            case (Phase.OPEN, Operation.CREDIT_UPDATE):
                pass
            case (Phase.OPEN, Operation.CREDIT_REQUEST):
                self._credit_owed = True
            case (Phase.OPEN, Operation.SHUTDOWN):
                self.guest_ended |= Shutdown(header.flags & BOTH_WAYS)
                # Linux's close() waits for a reset; we have what it sent before.
                return self.guest_ended != BOTH_WAYS
            case _:
                return False
        return True

    def _receive_data(self, payload: bytes) -> bool:
        self._received = (self._received + len(payload)) & _COUNTER_MASK
        unforwarded = (self._received - self._forwarded) & _COUNTER_MASK
        if self.guest_ended & Shutdown.SEND or unforwarded > self._limits.receive_bytes:
            return False
        if payload:
            self._keep_for_local(payload)
        return True

    def _keep_for_local(self, payload: bytes) -> None:
        if self.to_local and len(self.to_local[-1]) + len(payload) <= _JOINED_BYTES:
            self.to_local[-1] += payload
        else:
            self.to_local.append(payload)

    def end(self) -> None:
        """Nothing more comes from or goes to the guest."""
        self._owed = None
        self._credit_owed = False
        self.from_local.clear()
        self.guest_ended = BOTH_WAYS
        self.phase = Phase.DRAINING if self.to_local else Phase.CLOSED
