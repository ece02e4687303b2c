"""Loop devices (Linux uapi `loop.h`): a file as a block device.

Every device here detaches itself after its last use (LO_FLAGS_AUTOCLEAR): a mount that outlives the
`LoopDevice` keeps it attached, and nothing is left once that is unmounted.
"""

import fcntl
import os
import struct
from typing import Self

from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import kernel_error, open_path

LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_READ_ONLY = 1
LO_FLAGS_AUTOCLEAR = 4

_CONTROL_PATH = "/dev/loop-control"
# struct loop_config: fd, block_size, loop_info64 (with offset, sizelimit and flags), reserved.
_CONFIG = struct.Struct("=I I 5Q 3I I 64s 64s 32s 2Q 8Q")


def encode_config(fd: int, *, read_only: bool) -> bytes:
    """Encode `struct loop_config` for the whole file behind `fd`, in blocks of 512 bytes."""
    flags = LO_FLAGS_AUTOCLEAR | (LO_FLAGS_READ_ONLY if read_only else 0)
    return _CONFIG.pack(fd, 0, *(0,) * 5, *(0,) * 3, flags, b"", b"", b"", *(0,) * 2, *(0,) * 8)


class LoopDevice:
    """One attached device, open until `close`; a context manager."""

    __slots__ = ("_fd", "node")

    def __init__(self, node: str, fd: int) -> None:
        """Args: node: its path; fd: an open descriptor of it, which this object owns."""
        self.node = node
        self._fd = fd

    def close(self) -> None:
        """Close the device, which detaches unless something else uses it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_loop(path: str, *, read_only: bool = True) -> LoopDevice:
    """Attach the file at `path` to a free loop device; the device keeps the file's inode alive.

    Args:
        path: a regular file.
        read_only: refuse writes.

    Raises:
        KernelError: `kernel.loop.…`.
    """
    mode = os.O_RDONLY if read_only else os.O_RDWR
    with Descriptor(open_path(path, mode, "loop.backing")) as backing:
        return _attach(backing, encode_config(backing, read_only=read_only))


def _attach(backing: int, config: bytes) -> LoopDevice:
    try:
        with Descriptor(os.open(_CONTROL_PATH, os.O_RDWR | os.O_CLOEXEC)) as control:
            node = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
        device = Descriptor(os.open(node, os.O_RDWR | os.O_CLOEXEC))
        with device as fd:
            fcntl.ioctl(fd, LOOP_CONFIGURE, config)
            return LoopDevice(node, device.take())
    except OSError as error:
        raise kernel_error(error, "loop.configure", f"fd {backing}") from error
