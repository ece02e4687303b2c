"""All vsock connections of one guest: which one a packet is for, and whose turn it is to send.

Without I/O. Everything that a guest can make grow is bounded by `VsockLimits`: connections, their
buffers, and resets for packets that belong to none. `host_runtime.vsock.connection` has the states
of one connection, `host_runtime.vsock.endpoints` the sockets.
"""

from collections import deque
from typing import Final

from host_runtime.vsock.connection import Connection, Phase, VsockLimits
from host_runtime.vsock.packets import HOST_CID, TYPE_STREAM, Operation, PacketHeader

_FIRST_LOCAL_PORT: Final = 1 << 30  # above what the guest's programs listen for on the host
_LAST_NUMBER: Final = 0xFFFF_FFFF  # in a capture's records; a guest can reach it within a week


class ConnectionTable:
    """All connections of one guest."""

    def __init__(self, *, guest_cid: int, limits: VsockLimits) -> None:
        self.guest_cid = guest_cid
        self.limits = limits
        self._connections: dict[tuple[int, int], Connection] = {}
        self._draining: set[Connection] = set()
        self._ready: dict[Connection, None] = {}  # in turn; a dict keeps the order
        self._resets: deque[PacketHeader] = deque()
        self._next_port = _FIRST_LOCAL_PORT
        self._count = 0

    def __len__(self) -> int:
        return len(self._connections) + len(self._draining)

    @property
    def accepts_packets(self) -> bool:
        """Whether the guest's ring may be read: answers to it have room."""
        return len(self._resets) < self.limits.pending_resets

    @property
    def has_output(self) -> bool:
        """Whether `next_packet` has one to give."""
        return bool(self._resets or self._ready)

    def open(self, guest_port: int) -> Connection | None:
        """Begin a connection to `guest_port`; None if there are too many."""
        if len(self) >= self.limits.connections:
            return None
        local_port = self._free_port(guest_port)
        return self._add(local_port, guest_port, Phase.REQUESTED)

    def receive(self, header: PacketHeader, payload: bytes) -> Connection | None:
        """Take one packet; return the connection that it concerned, if there is one.

        A new connection in phase OPENING wants its local end: `accept` or `reset` follows.
        """
        if header.source_cid != self.guest_cid or header.kind != TYPE_STREAM:
            self._answer_reset(header)
            return None
        key = (header.destination_port, header.source_port)
        connection = self._connections.get(key)
        if header.destination_cid != HOST_CID or connection is None:
            return self._receive_unknown(header)
        if not connection.receive(header, payload):
            self._answer_reset(header)
            connection.end()
        self.update(connection)
        return connection

    def next_packet(self, room: int) -> tuple[Connection | None, PacketHeader, bytes] | None:
        """Return the next packet for the guest, or None; connections take turns."""
        if self._resets:
            return None, self._resets.popleft(), b""
        if not self._ready:
            return None
        connection = next(iter(self._ready))
        del self._ready[connection]
        header, payload = connection.next_packet(room)
        self.update(connection)
        return connection, header, payload

    def update(self, connection: Connection) -> None:
        """File `connection` by its new state; call this after each change from outside."""
        key = (connection.local_port, connection.guest_port)
        if connection.phase in (Phase.DRAINING, Phase.CLOSED):
            if self._connections.get(key) is connection:
                del self._connections[key]
            self._ready.pop(connection, None)
            if connection.to_local:
                self._draining.add(connection)
            else:
                connection.phase = Phase.CLOSED
                self._draining.discard(connection)
        elif connection.has_output():
            self._ready.setdefault(connection)
        else:
            self._ready.pop(connection, None)

    def reset(self, connection: Connection) -> None:
        """End `connection` from this side: the local end is gone, or cannot be had."""
        told = connection.is_known_to_guest
        connection.to_local.clear()
        connection.end()
        self.update(connection)
        if told:
            self._resets.append(
                self._reset_packet(HOST_CID, connection.local_port, connection.guest_port)
            )

    def clear(self) -> None:
        """Forget everything: the guest was reset."""
        for connection in (*self._connections.values(), *self._draining):
            connection.end()
        self._connections.clear()
        self._draining.clear()
        self._ready.clear()
        self._resets.clear()

    def _receive_unknown(self, header: PacketHeader) -> Connection | None:
        wanted = header.operation == Operation.REQUEST and header.destination_cid == HOST_CID
        if not wanted or len(self) >= self.limits.connections:
            self._answer_reset(header)
            return None
        connection = self._add(header.destination_port, header.source_port, Phase.OPENING)
        connection.receive_credit(header)
        return connection

    def _add(self, local_port: int, guest_port: int, phase: Phase) -> Connection:
        self._count = self._count % _LAST_NUMBER + 1
        connection = Connection(
            guest_cid=self.guest_cid,
            local_port=local_port,
            guest_port=guest_port,
            number=self._count,
            phase=phase,
            limits=self.limits,
        )
        self._connections[local_port, guest_port] = connection
        self.update(connection)
        return connection

    def _free_port(self, guest_port: int) -> int:
        while (self._next_port, guest_port) in self._connections:
            self._next_port = _FIRST_LOCAL_PORT | (self._next_port + 1) % _FIRST_LOCAL_PORT
        port = self._next_port
        self._next_port = _FIRST_LOCAL_PORT | (port + 1) % _FIRST_LOCAL_PORT
        return port

    def _answer_reset(self, header: PacketHeader) -> None:
        if header.operation == Operation.RST:
            return  # never a reset for a reset: two sides would go on for ever
        self._resets.append(
            self._reset_packet(header.destination_cid, header.destination_port, header.source_port)
        )

    def _reset_packet(self, source_cid: int, source_port: int, port: int) -> PacketHeader:
        return PacketHeader(
            source_cid=source_cid,
            destination_cid=self.guest_cid,
            source_port=source_port,
            destination_port=port,
            length=0,
            kind=TYPE_STREAM,
            operation=Operation.RST,
            flags=0,
            buffer_bytes=0,
            forwarded_bytes=0,
        )
