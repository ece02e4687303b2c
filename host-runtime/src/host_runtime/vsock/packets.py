"""The header of a virtio-vsock packet: bytes to values and back (virtio 1.2, section 5.10.6).

Pure. `host_runtime.vsock.connections` decides which packet is legal when;
`host_runtime.vsock.virtqueue` knows where the bytes are in guest memory.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from ccinit.errors import FormatError

HOST_CID = 2
TYPE_STREAM = 1
HEADER_BYTES = 44
# The largest payload Linux puts into one packet (VIRTIO_VSOCK_MAX_PKT_BUF_SIZE).
MAX_PAYLOAD_BYTES = 64 * 1024

_HEADER = struct.Struct("<QQIIIHHIII")


class Operation(IntEnum):
    """What a packet asks for (section 5.10.6, VIRTIO_VSOCK_OP_*)."""

    REQUEST = 1
    RESPONSE = 2
    RST = 3
    SHUTDOWN = 4
    RW = 5
    CREDIT_UPDATE = 6
    CREDIT_REQUEST = 7


class Shutdown(IntFlag):
    """Flags of a SHUTDOWN packet: what its *sender* will not do any more."""

    RECEIVE = 1
    SEND = 2


BOTH_WAYS = Shutdown.RECEIVE | Shutdown.SEND


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketHeader:
    """One header. `operation` and `kind` are unchecked numbers: an unknown one is answered by RST.

    `buffer_bytes` and `forwarded_bytes` are the sender's buf_alloc and fwd_cnt: its receive space,
    and how much of what it got it has passed on (a counter modulo 2^32).
    """

    source_cid: int
    destination_cid: int
    source_port: int
    destination_port: int
    length: int
    kind: int
    operation: int
    flags: int
    buffer_bytes: int
    forwarded_bytes: int


def parse_header(data: bytes, payload_bytes: int) -> PacketHeader:
    """Return the header that the 44 bytes of `data` hold; `payload_bytes` came behind it.

    Raises:
        FormatError: `vsock.header`: there are not exactly 44 bytes; `vsock.length`: more payload
            is announced than came.
    """
    if len(data) != HEADER_BYTES:
        raise FormatError("vsock.header", f"expected {HEADER_BYTES} bytes, found {len(data)}")
    source_cid, destination_cid, source_port, destination_port, *rest = _HEADER.unpack(data)
    length, kind, operation, flags, buffer_bytes, forwarded_bytes = rest
    if length > payload_bytes:
        raise FormatError("vsock.length", f"{length} bytes announced, {payload_bytes} came")
    return PacketHeader(
        source_cid=source_cid,
        destination_cid=destination_cid,
        source_port=source_port,
        destination_port=destination_port,
        length=length,
        kind=kind,
        operation=operation,
        flags=flags,
        buffer_bytes=buffer_bytes,
        forwarded_bytes=forwarded_bytes,
    )


def encode_header(header: PacketHeader) -> bytes:
    """Return the 44 bytes of `header`."""
    return _HEADER.pack(
        header.source_cid,
        header.destination_cid,
        header.source_port,
        header.destination_port,
        header.length,
        header.kind,
        header.operation,
        header.flags,
        header.buffer_bytes,
        header.forwarded_bytes,
    )
