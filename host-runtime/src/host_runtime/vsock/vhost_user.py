"""vhost-user messages: codec without I/O (QEMU's vhost-user protocol description).

A reader says how many bytes it wants next and is fed exactly those. The kernel merges messages of a
stream but hands out their descriptors only once, so after a read across a message's start nobody
could tell whose they are. `host_runtime.vsock.backend` carries out the messages.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from ccinit.errors import FormatError

HEADER_BYTES = 12
MAX_PAYLOAD_BYTES = 4096
MAX_DESCRIPTORS = 8  # one per memory region: VHOST_USER_BASELINE_MAX_MEM_REGIONS

FEATURE_VERSION_1 = 1 << 32  # VIRTIO_F_VERSION_1
FEATURE_PROTOCOL = 1 << 30  # VHOST_USER_F_PROTOCOL_FEATURES
PROTOCOL_REPLY_ACK = 1 << 3
PROTOCOL_CONFIG = 1 << 9  # without it QEMU does not learn the CID

_HEADER = struct.Struct("<III")
_VERSION = 1
_VERSION_MASK = 3
_FLAG_REPLY = 4
_FLAG_NEED_REPLY = 8
_REGION = struct.Struct("<QQQQ")
_VRING_ADDRESS = struct.Struct("<IIQQQQ")


class Request(IntEnum):
    """Requests that QEMU sends for a vsock device."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    GET_CONFIG = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One request with the descriptors that came along; the receiver owns them."""

    request: int
    needs_reply: bool
    payload: bytes
    descriptors: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionLayout:
    """One row of a memory table: addresses as the guest and as QEMU know it, place in its file."""

    guest_address: int
    size: int
    user_address: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VringAddress:
    """Where QEMU says a ring's three parts are, as addresses of its own process."""

    index: int
    descriptors: int
    used: int
    available: int


class MessageReader:
    """Assembles messages from a stream: read `wanted_bytes`, `feed` them, repeat."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._descriptors: tuple[int, ...] = ()
        self._size: int | None = None

    @property
    def wanted_bytes(self) -> int:
        """How many bytes to read at most: never beyond the current message's part."""
        end = HEADER_BYTES if self._size is None else HEADER_BYTES + self._size
        return end - len(self._buffer)

    def feed(self, data: bytes, descriptors: tuple[int, ...]) -> Message | None:
        """Take what was read; return a message once it is complete.

        Raises:
            FormatError: `vhost.header`: wrong version, or a payload above 4 KiB.
        """
        self._buffer += data
        self._descriptors += descriptors
        if len(self._buffer) == HEADER_BYTES:
            _, flags, size = _HEADER.unpack(self._buffer)
            if flags & _VERSION_MASK != _VERSION or size > MAX_PAYLOAD_BYTES:
                raise FormatError("vhost.header", f"flags {flags:#x}, payload of {size} bytes")
            self._size = size
        if self._size is None or len(self._buffer) < HEADER_BYTES + self._size:
            return None
        request, flags, _ = _HEADER.unpack_from(self._buffer)
        message = Message(
            request=request,
            needs_reply=bool(flags & _FLAG_NEED_REPLY),
            payload=bytes(self._buffer[HEADER_BYTES:]),
            descriptors=self._descriptors,
        )
        self._buffer.clear()
        self._descriptors = ()
        self._size = None
        return message


def encode_reply(request: int, payload: bytes) -> bytes:
    """Return the reply to `request`."""
    return _HEADER.pack(request, _VERSION | _FLAG_REPLY, len(payload)) + payload


def encode_number(value: int) -> bytes:
    """Return a payload that is one u64."""
    return struct.pack("<Q", value)


def parse_number(payload: bytes) -> int:
    """Return the u64 that is the whole payload."""
    return int(_unpack(struct.Struct("<Q"), payload)[0])


def encode_vring_state(index: int, value: int) -> bytes:
    """Return the payload of a vring state: a ring's index and one number."""
    return struct.pack("<II", index, value)


def parse_vring_state(payload: bytes) -> tuple[int, int]:
    """Return a ring's index and the number that is set for it."""
    index, value = _unpack(struct.Struct("<II"), payload)
    return index, value


def parse_vring_address(payload: bytes) -> VringAddress:
    """Return the payload of SET_VRING_ADDR (its flags and log address are not used)."""
    index, _flags, descriptors, used, available, _log = _unpack(_VRING_ADDRESS, payload)
    return VringAddress(index=index, descriptors=descriptors, used=used, available=available)


def parse_memory_table(payload: bytes) -> tuple[RegionLayout, ...]:
    """Return the rows of SET_MEM_TABLE.

    Raises:
        FormatError: `vhost.memory`: more than 8 regions, or another size than the count says.
    """
    count = int.from_bytes(payload[:4], "little")
    if not 0 < count <= MAX_DESCRIPTORS or len(payload) != 8 + count * _REGION.size:
        raise FormatError("vhost.memory", f"{count} regions in {len(payload)} bytes")
    return tuple(
        RegionLayout(guest_address=guest, size=size, user_address=user, offset=offset)
        for guest, size, user, offset in _REGION.iter_unpack(payload[8:])
    )


def encode_config(payload: bytes, guest_cid: int) -> bytes:
    """Return the reply to GET_CONFIG: its three numbers again, then the config space (the CID).

    Raises:
        FormatError: `vhost.payload`: the request is not as long as it says.
    """
    if len(payload) < 12:
        raise FormatError("vhost.payload", f"a config request of {len(payload)} bytes")
    offset, size, _flags = struct.unpack_from("<III", payload)
    if len(payload) != 12 + size:
        raise FormatError("vhost.payload", f"{size} config bytes in {len(payload)} bytes")
    space = encode_number(guest_cid)[offset : offset + size]
    return payload[:12] + space.ljust(size, b"\0")


def _unpack(layout: struct.Struct, payload: bytes) -> tuple[int, ...]:
    if len(payload) != layout.size:
        raise FormatError("vhost.payload", f"expected {layout.size} bytes, found {len(payload)}")
    return layout.unpack(payload)
