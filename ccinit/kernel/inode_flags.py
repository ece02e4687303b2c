"""Flags of inodes that file systems keep (FS_IOC_SETFLAGS(2const); `include/uapi/linux/fs.h`)."""

import fcntl
import struct

from ccinit.kernel.libc import kernel_error

FS_IOC_GETFLAGS = 0x8008_6601  # of int, whatever the number says
FS_IOC_SETFLAGS = 0x4008_6602
FS_IMMUTABLE_FL = 0x10
_FLAGS = struct.Struct("=i4x")


def make_immutable(fd: int, path: str) -> None:
    """Let nobody rename, replace, remove or change a file or directory.

    Only CAP_LINUX_IMMUTABLE can undo it. What is mounted on an immutable directory is not affected.

    Args:
        fd: opened for reading.
        path: for errors.

    Raises:
        KernelError: `kernel.flags`.
    """
    try:
        (flags,) = _FLAGS.unpack(fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(_FLAGS.size)))
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, _FLAGS.pack(flags | FS_IMMUTABLE_FL))
    except OSError as error:
        raise kernel_error(error, "flags", path) from error
