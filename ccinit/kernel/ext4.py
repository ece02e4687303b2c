"""ext4's own ioctls (`fs/ext4/ext4.h`)."""

import fcntl
import os
import struct

from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import kernel_error

EXT4_IOC_RESIZE_FS = 0x40086610  # _IOW('f', 16, __u64)
_U64 = struct.Struct("=Q")


def resize_ext4(directory: str, block_count: int) -> None:
    """Let a mounted file system grow to `block_count` blocks, or to the last group that fits.

    On return the journal is empty, and the superblock on the disk has the new size. Nothing changes
    if the file system already has that size, or already ends with the last group that fits.

    Args:
        directory: any directory of the file system.
        block_count: at least the present number; the kernel reads the last of these blocks.

    Raises:
        KernelError: `kernel.ext4.resize`; it may have grown by some groups.
    """
    try:
        with Descriptor(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
            fcntl.ioctl(fd, EXT4_IOC_RESIZE_FS, _U64.pack(block_count))
    except OSError as error:
        raise kernel_error(error, "ext4.resize", directory) from error
