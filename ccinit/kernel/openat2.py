"""Open a path inside a directory tree as if that tree were the root, and never outside it.

`openat2(2)` with RESOLVE_IN_ROOT: absolute and climbing symbolic links are read as a process
chrooted there would read them; magic links of /proc are refused.
"""

import errno
import os
import struct
from typing import Final

from ccinit.errors import KernelError
from ccinit.kernel.libc import syscall

NR_OPENAT2: Final = 437
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_IN_ROOT: Final = 0x10

MAX_ATTEMPTS: Final = 128
"""A step up (`..`, also in a symbolic link) fails with EAGAIN if *any* directory entry of the
machine is renamed meanwhile, and can be retried. Beside a process that did nothing but rename, six
failures in a row were the most in ten thousand."""

_OPEN_HOW: Final = struct.Struct("=QQQ")  # flags, mode, resolve


def open_in_root(
    root_fd: int, path: str, flags: int, *, mode: int = 0, follow_links: bool = True
) -> int:
    """Open `path` below `root_fd` and return a close-on-exec descriptor.

    Args:
        root_fd: directory that is the root of the resolution.
        path: relative or absolute; both start at `root_fd`.
        flags: `os.O_*`.
        mode: permission bits if `flags` has O_CREAT.
        follow_links: False refuses a symbolic link anywhere in `path` (ELOOP).

    Raises:
        KernelError: with the kernel's errno; EAGAIN if something was renamed in each attempt.
    """
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    if not follow_links:
        resolve |= RESOLVE_NO_SYMLINKS
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(MAX_ATTEMPTS - 1):
        try:
            return _openat2(root_fd, path, how)
        except KernelError as error:
            if error.errno != errno.EAGAIN:
                raise
    return _openat2(root_fd, path, how)


def _openat2(root_fd: int, path: str, how: bytes) -> int:
    return syscall(
        NR_OPENAT2, root_fd, os.fsencode(path), how, len(how), operation="openat2", target=path
    )
