"""Block devices: the virtio disks that exist, their size, and direct reads and writes.

Names, serial numbers and order are only the host's claims: what a disk *is* follows from its
content, and the rooms decide that. Direct I/O bypasses the page cache, so a read returns what the
device says now, and a finished write has reached it.
"""

import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Sequence

from ccinit.errors import KernelError
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import kernel_error, open_path
from ccinit.values import frozen

BLKGETSIZE64 = 0x80081272
SECTOR_BYTES = 512
_U64 = struct.Struct("=Q")

SYSFS_BLOCK = "/sys/class/block"


@frozen
class BlockDevice:
    """One virtio disk as sysfs shows it.

    Attributes:
        name: kernel name, `vda`.
        number: `major:minor`, the form in which device-mapper prints it.
        serial: the host's name for it; may be empty.
        holders: kernel names of the devices built on it (`dm-0`).
    """

    name: str
    number: str
    size_bytes: int
    read_only: bool
    serial: str
    holders: tuple[str, ...]

    @property
    def node(self) -> str:
        """Its node in devtmpfs."""
        return f"/dev/{self.name}"


def list_virtio_disks(sysfs: str = SYSFS_BLOCK) -> tuple[BlockDevice, ...]:
    """Return the whole disks that virtio-blk drives, in the order of their names.

    Raises:
        KernelError: `kernel.block.list`.
    """
    try:
        names = sorted(os.listdir(sysfs), key=lambda name: (len(name), name))
        return tuple(
            _read_device(f"{sysfs}/{name}", name) for name in names if _is_virtio(f"{sysfs}/{name}")
        )
    except OSError as error:
        raise kernel_error(error, "block.list", sysfs) from error


def _is_virtio(directory: str) -> bool:
    # Partitions have no driver of their own; loop, ram and dm devices have no `device` at all.
    try:
        return os.path.basename(os.readlink(f"{directory}/device/driver")) == "virtio_blk"
    except FileNotFoundError:
        return False


def _read_device(directory: str, name: str) -> BlockDevice:
    return BlockDevice(
        name=name,
        number=_read_text(f"{directory}/dev"),
        size_bytes=int(_read_text(f"{directory}/size")) * SECTOR_BYTES,
        read_only=_read_text(f"{directory}/ro") != "0",
        serial=_read_serial(f"{directory}/serial"),
        holders=tuple(sorted(os.listdir(f"{directory}/holders"))),
    )


def _read_serial(path: str) -> str:
    try:
        return _read_text(path)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return ""  # the device does not support the request (virtio 1.2, VIRTIO_BLK_S_UNSUPP)


def _read_text(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(4096).decode("ascii", "replace").strip()


def read_size_bytes(node: str) -> int:
    """Return the device's size as the driver has it now."""
    with _open(node, os.O_RDONLY) as fd:
        try:
            return int(_U64.unpack(fcntl.ioctl(fd, BLKGETSIZE64, bytes(8)))[0])
        except OSError as error:
            raise kernel_error(error, "block.size", node) from error


def read_direct(node: str, offset: int, length: int) -> bytes:
    """Read `length` bytes at `offset` past the page cache; both are multiples of 4096.

    Raises:
        KernelError: `kernel.block.read`; errno EILSEQ is a failed integrity check. `kernel.mmap`.
    """
    with _open(node, os.O_RDONLY | os.O_DIRECT) as fd, _map_memory(length) as buffer:
        try:
            done = os.preadv(fd, [buffer], offset)
        except OSError as error:
            raise kernel_error(error, "block.read", node) from error
        if done != length:
            raise KernelError(errno.EIO, "block.read", node)
        return buffer[:]


def write_direct(node: str, offset: int, data: bytes) -> None:
    """Write `data` at `offset` past the page cache and flush the device's own cache.

    Args:
        node: the device.
        offset: in bytes, a multiple of 4096.
        data: its length is a multiple of 4096.

    Raises:
        KernelError: `kernel.block.write`; `kernel.mmap`, no memory left.
    """
    with _open(node, os.O_RDWR | os.O_DIRECT) as fd, _map_memory(len(data)) as buffer:
        buffer[:] = data
        try:
            done = os.pwritev(fd, [buffer], offset)
            os.fsync(fd)
        except OSError as error:
            raise kernel_error(error, "block.write", node) from error
        if done != len(data):
            raise KernelError(errno.EIO, "block.write", node)


def zero_direct(node: str, extents: Sequence[tuple[int, int]]) -> None:
    """Write zeros past the page cache, and flush the device's own cache once, at the end.

    Args:
        node: the device.
        extents: offsets and lengths in bytes, multiples of 4096.

    Raises:
        KernelError: `kernel.block.write`; `kernel.mmap`, no memory left.
    """
    longest = max((length for _, length in extents), default=0)
    if not longest:
        return
    with _open(node, os.O_RDWR | os.O_DIRECT) as fd, _map_memory(longest) as zeros:
        try:
            for offset, length in extents:
                if os.pwritev(fd, [memoryview(zeros)[:length]], offset) != length:
                    raise KernelError(errno.EIO, "block.write", node)
            os.fsync(fd)
        except OSError as error:
            raise kernel_error(error, "block.write", node) from error


def _map_memory(length: int) -> mmap.mmap:
    """Return memory that begins with a page, as O_DIRECT wants it."""
    try:
        return mmap.mmap(-1, length)
    except OSError as error:
        raise kernel_error(error, "mmap", f"{length} bytes") from error


def _open(node: str, flags: int) -> Descriptor:
    return Descriptor(open_path(node, flags, "block.open"))
