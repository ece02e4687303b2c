"""What kind of file system a descriptor is on (fstatfs(2))."""

import struct

from ccinit.kernel.libc import syscall

NR_FSTATFS = 138
PROC_SUPER_MAGIC = 0x9FA0  # <linux/magic.h>
_STATFS_BYTES = 120
_TYPE = struct.Struct("=q")  # f_type, the first field


def is_proc(fd: int) -> bool:
    """Whether `fd` is of a mount of proc, wherever it is and of whichever processes it tells.

    Raises:
        KernelError: `kernel.fstatfs`.
    """
    facts = bytearray(_STATFS_BYTES)
    syscall(NR_FSTATFS, fd, facts, operation="fstatfs")
    return _TYPE.unpack_from(facts) == (PROC_SUPER_MAGIC,)
