"""One file of a running container, opened from outside as its program would see it.

Scope: path resolution (within the root of the container's first process, volumes and secrets
included, and never out of it, by openat2), and what may be opened: only regular files, and none of
/proc. PID 1 opens them, and may do there what the container's user may not: where containers share
processes, read the environment of another; open a device that the image brings. Left to others: who
may ask (`ccinit.agent`), moving the bytes (the owner plane's child).

The container chooses where its links lead, and what lies there. So a path is first only found
(O_PATH), which runs nobody's code, and opened once it is known to be a file. One to be written is
emptied as it is opened: else an overlay first copies what the image has, and PID 1 would wait for
gigabytes that are then dropped.
"""

import errno
import os
import stat

from ccinit.errors import ConfigError, KernelError
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.file_system import is_proc
from ccinit.kernel.libc import kernel_error, open_path
from ccinit.kernel.openat2 import open_in_root
from ccinit.run.users import Identity

_SAFE = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # whatever the file is, opening it never blocks
_MODE_BITS = 0o777


def open_file(pid: int, path: str, *, into: bool, mode: int, owner: Identity) -> int:
    """Open a file of the container whose first process is `pid`; return a descriptor.

    Args:
        pid: a process that was not reaped, so that the number is still its own.
        path: as the container sees it.
        into: whether to write: an existing file is truncated, a missing one is made.
        mode: permission bits of a new file.
        owner: of a new file.

    Raises:
        ConfigError: `run.file`, not a regular file, or one of /proc.
        KernelError: the kernel refused: no such path, a read-only place.
    """
    with Descriptor(open_path(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY)) as root:
        if into:
            _make(root, path, mode, owner)
        found = Descriptor(open_in_root(root, path, os.O_PATH))
    with found as fd:
        return _open_found(fd, path, into=into)


def _open_found(found: int, path: str, *, into: bool) -> int:
    """Open what was found, by its descriptor, whatever its path leads to by now."""
    flags = os.O_WRONLY | os.O_TRUNC if into else os.O_RDONLY
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode) or is_proc(found):
            raise ConfigError("run.file", f"{path[:80]!r} is not a regular file")
        return os.open(f"/proc/self/fd/{found}", _SAFE | flags)
    except OSError as error:
        raise kernel_error(error, "open", path) from error


def _make(root: int, path: str, mode: int, owner: Identity) -> None:
    """Make the file if it is missing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
    try:
        descriptor = open_in_root(root, path, flags, mode=0o600)
    except KernelError as error:
        if error.errno == errno.EEXIST:
            return
        raise
    try:
        os.fchown(descriptor, owner.uid, owner.gid)
        os.fchmod(descriptor, mode & _MODE_BITS)
    except OSError as error:  # a disk that has just failed makes its file system read-only
        raise kernel_error(error, "fchown", path) from error
    finally:
        os.close(descriptor)
