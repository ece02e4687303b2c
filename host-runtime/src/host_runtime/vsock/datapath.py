"""Moves packets between the two rings and the connection table, and records them.

Bounded per call, so that a guest that never stops sending cannot keep the loop from its other work.
Sockets are left to `host_runtime.vsock.endpoints`.
"""

import logging
from typing import Final

from ccinit.errors import FormatError
from host_runtime.vsock.capture import CaptureWriter, Stream
from host_runtime.vsock.connection import Connection
from host_runtime.vsock.connections import ConnectionTable
from host_runtime.vsock.packets import (
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Operation,
    encode_header,
    parse_header,
)
from host_runtime.vsock.virtqueue import DescriptorChain, Virtqueue

_PACKETS_PER_TURN: Final = 256  # two full rings of QEMU's vsock device

_log = logging.getLogger(__name__)


class Datapath:
    """The way between rings and table; `dropped` counts packets that were malformed."""

    def __init__(self, *, table: ConnectionTable, capture: CaptureWriter) -> None:
        self.dropped = 0
        self._table = table
        self._capture = capture

    def receive(self, queue: Virtqueue, touched: set[Connection]) -> bool:
        """Take packets off the guest's ring; return whether any was taken.

        Connections that changed are added to `touched`.

        Raises:
            FormatError: the ring is malformed.
        """
        for turn in range(_PACKETS_PER_TURN):
            chain = queue.take() if self._table.accepts_packets else None
            if chain is None:
                return turn > 0
            connection = self._receive_chain(chain)
            queue.publish(chain, 0)
            if connection is not None:
                touched.add(connection)
        return True

    def send(self, queue: Virtqueue, touched: set[Connection]) -> bool:
        """Fill the guest's buffers with what the table has; return whether any was filled.

        Raises:
            FormatError: the ring is malformed, or a buffer has no room for a packet.
        """
        for turn in range(_PACKETS_PER_TURN):
            chain = queue.take() if self._table.has_output else None
            if chain is None:
                return turn > 0
            room = chain.writable_bytes - HEADER_BYTES
            if room <= 0:
                raise FormatError("ring.buffer", f"a buffer of {chain.writable_bytes} bytes")
            packet = self._table.next_packet(min(room, MAX_PAYLOAD_BYTES))
            if packet is None:  # has_output said otherwise
                raise RuntimeError("the connection table lost its packet")
            connection, header, payload = packet
            chain.write(encode_header(header) + payload)
            queue.publish(chain, HEADER_BYTES + len(payload))
            if connection is not None:
                self._capture.write(connection.number, Stream.HOST_PAYLOAD, payload)
                touched.add(connection)
        return True

    def _receive_chain(self, chain: DescriptorChain) -> Connection | None:
        content = chain.read(HEADER_BYTES + MAX_PAYLOAD_BYTES)  # one copy: the guest may write
        head, payload = content[:HEADER_BYTES], content[HEADER_BYTES:]
        connection = None
        try:
            header = parse_header(head, len(payload))
        except FormatError as error:
            self.dropped += 1
            if self.dropped == 1:  # once: the guest must not be able to fill the host's log
                _log.warning("dropped a packet: %s", error)
        else:
            data = payload[: header.length] if header.operation == Operation.RW else b""
            connection = self._table.receive(header, data)
        number = 0 if connection is None else connection.number
        self._capture.write(number, Stream.GUEST_HEADER, head)
        self._capture.write(number, Stream.GUEST_PAYLOAD, payload)
        return connection
