"""Device-mapper ioctls (Linux uapi `dm-ioctl.h`, interface version 4).

Encoding and decoding are pure functions over bytes; `DmControl` makes the calls. What tables say
(cipher, hash, sizes) is left to the rooms. Keys never appear in a table: dm-crypt takes them from
the kernel keyring.
"""

import fcntl
import os
import struct
from collections.abc import Sequence
from typing import Self

from ccinit.errors import FormatError
from ccinit.kernel.libc import kernel_error, open_path
from ccinit.values import frozen

CONTROL_PATH = "/dev/mapper/control"

# _IOWR(DM_IOCTL, nr, struct dm_ioctl): direction 3, size 312, type 0xfd.
_IOCTL = 0xC138FD00
DM_DEV_CREATE = 3
DM_DEV_REMOVE = 4
DM_DEV_SUSPEND = 6
DM_TABLE_LOAD = 9
DM_TABLE_STATUS = 12
DM_TARGET_MSG = 14

DM_READONLY_FLAG = 1 << 0
DM_SUSPEND_FLAG = 1 << 1
DM_STATUS_TABLE_FLAG = 1 << 4
DM_BUFFER_FULL_FLAG = 1 << 8
DM_SECURE_DATA_FLAG = 1 << 15
"""The kernel overwrites its copy of the buffer after the call."""

_VERSION = (4, 0, 0)
_HEADER = struct.Struct("=3I I I I i I I I Q 128s 129s 7x")
_TARGET = struct.Struct("=Q Q i I 16s")
_SECTOR = struct.Struct("=Q")

MAX_NAME_BYTES = 127
MAX_KIND_BYTES = 15
_REPLY_BYTES = 16 * 1024


@frozen
class DmTarget:
    """One line of a table or of a status; sectors have 512 bytes."""

    start_sectors: int = 0
    length_sectors: int
    kind: str
    parameters: str


@frozen
class DmDevice:
    """A mapped device that exists, with or without a table."""

    name: str
    minor: int

    @property
    def node(self) -> str:
        """Its node in devtmpfs, present as soon as the device is."""
        return f"/dev/dm-{self.minor}"


@frozen
class DmReply:
    """What the kernel wrote back.

    Attributes:
        dev: the device number, encoded as `os.minor` takes it.
        target_count: number of targets of the active table; only a status has them in its payload.
    """

    dev: int
    target_count: int
    payload: bytes


def encode_request(name: str, flags: int, payload: bytes, *, target_count: int = 0) -> bytearray:
    """Encode one ioctl buffer, large enough for any reply that is read here.

    Raises:
        FormatError: `dm.name`.
    """
    encoded = name.encode()
    if not 0 < len(encoded) <= MAX_NAME_BYTES or b"/" in encoded or b"\0" in encoded:
        raise FormatError("dm.name", f"{name[:80]!r} is not a device name")
    size = max(_HEADER.size + len(payload), _REPLY_BYTES)
    buffer = bytearray(size)
    _HEADER.pack_into(
        buffer, 0, *_VERSION, size, _HEADER.size, target_count, 0, flags, 0, 0, 0, encoded, b""
    )
    buffer[_HEADER.size : _HEADER.size + len(payload)] = payload
    return buffer


def encode_table(targets: Sequence[DmTarget]) -> bytes:
    """Encode the payload of DM_TABLE_LOAD: each target, then its text padded to eight bytes.

    Raises:
        FormatError: `dm.table`.
    """
    table = b""
    for target in targets:
        kind, text = target.kind.encode(), target.parameters.encode()
        if not 0 < len(kind) <= MAX_KIND_BYTES or b"\0" in kind + text:
            raise FormatError("dm.table", f"{target.kind[:80]!r} cannot be encoded")
        padded = text + bytes(8 - len(text) % 8)
        size = _TARGET.size + len(padded)
        table += _TARGET.pack(target.start_sectors, target.length_sectors, 0, size, kind) + padded
    return table


def encode_message(message: str) -> bytes:
    """Encode the payload of DM_TARGET_MSG for the target that holds sector 0."""
    return _SECTOR.pack(0) + message.encode() + b"\0"


def parse_reply(buffer: bytes | bytearray) -> DmReply:
    """Decode what an ioctl left in its buffer.

    Raises:
        FormatError: `dm.reply`, the buffer was too small for the header or for the reply.
    """
    if len(buffer) < _HEADER.size:
        raise FormatError("dm.reply", f"{len(buffer)} bytes are not a header")
    _, _, _, size, start, count, _, flags, _, _, dev, _, _ = _HEADER.unpack_from(buffer)
    if flags & DM_BUFFER_FULL_FLAG or size > len(buffer):
        raise FormatError("dm.reply", "the reply did not fit")
    return DmReply(dev=dev, target_count=count, payload=bytes(buffer[start:size]))


def parse_targets(reply: DmReply) -> tuple[DmTarget, ...]:
    """Decode the payload of a DM_TABLE_STATUS reply.

    Raises:
        FormatError: `dm.reply`, a target that is outside the payload or not after the one before,
            or a text without end.
    """
    data = reply.payload
    targets = []
    offset = least = 0
    for _ in range(reply.target_count):
        if not least <= offset <= len(data) - _TARGET.size:
            raise FormatError("dm.reply", "a target outside the buffer")
        start, length, _, following, kind = _TARGET.unpack_from(data, offset)
        least = offset + _TARGET.size
        text, nul, _ = data[least:].partition(b"\0")
        if not nul:
            raise FormatError("dm.reply", "a text without end")
        targets.append(
            DmTarget(
                start_sectors=start,
                length_sectors=length,
                kind=kind.rstrip(b"\0").decode("ascii", "replace"),
                parameters=text.decode("ascii", "replace"),
            )
        )
        # In a reply the offset counts from the first target, in a request from the target itself.
        offset = following
    return tuple(targets)


class DmControl:
    """The control node, open until `close`; every other method is one ioctl. A context manager."""

    __slots__ = ("_fd",)

    def __init__(self, path: str = CONTROL_PATH) -> None:
        """Open the node at `path`."""
        self._fd = open_path(path, os.O_RDWR, "dm.open")

    def close(self) -> None:
        """Close the node; devices stay. Calling it again does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create(self, name: str) -> DmDevice:
        """Create a device without a table."""
        reply = self._call(DM_DEV_CREATE, "dm.create", name)
        return DmDevice(name=name, minor=os.minor(reply.dev))

    def load(
        self,
        device: DmDevice,
        targets: Sequence[DmTarget],
        *,
        read_only: bool = False,
        secure: bool = False,
    ) -> None:
        """Load the inactive table; with `secure` the kernel wipes its copy of the buffer."""
        flags = (DM_READONLY_FLAG if read_only else 0) | (DM_SECURE_DATA_FLAG if secure else 0)
        table = encode_table(targets)
        self._call(DM_TABLE_LOAD, "dm.load", device.name, flags, table, len(targets))

    def resume(self, device: DmDevice, *, read_only: bool = False) -> None:
        """Make the loaded table the active one and let I/O pass."""
        flags = DM_READONLY_FLAG if read_only else 0
        self._call(DM_DEV_SUSPEND, "dm.resume", device.name, flags)

    def suspend(self, device: DmDevice) -> None:
        """Flush and hold all I/O."""
        self._call(DM_DEV_SUSPEND, "dm.suspend", device.name, DM_SUSPEND_FLAG)

    def remove(self, device: DmDevice) -> None:
        """Remove the device; EBUSY while it is open, mounted or under another device."""
        self._call(DM_DEV_REMOVE, "dm.remove", device.name)

    def read_status(self, device: DmDevice) -> tuple[DmTarget, ...]:
        """Return the active table's targets, with their status in place of parameters."""
        return parse_targets(self._call(DM_TABLE_STATUS, "dm.status", device.name))

    def read_table(self, device: DmDevice) -> tuple[DmTarget, ...]:
        """Return the active table as the kernel understood it."""
        reply = self._call(DM_TABLE_STATUS, "dm.table", device.name, DM_STATUS_TABLE_FLAG)
        return parse_targets(reply)

    def send_message(self, device: DmDevice, message: str) -> None:
        """Send a message to the device's first target."""
        payload = encode_message(message)
        self._call(DM_TARGET_MSG, "dm.message", device.name, 0, payload)

    def _call(
        self,
        number: int,
        operation: str,
        name: str,
        flags: int = 0,
        payload: bytes = b"",
        target_count: int = 0,
    ) -> DmReply:
        buffer = encode_request(name, flags, payload, target_count=target_count)
        try:
            fcntl.ioctl(self._fd, _IOCTL | number, buffer, True)  # noqa: FBT003 (positional only)
        except OSError as error:
            raise kernel_error(error, operation, name) from error
        return parse_reply(buffer)
