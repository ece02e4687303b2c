"""One file of a running container, opened from outside as its program would see it.

Scope: path resolution (within the root of the container's first process, volumes and secrets
included, and never out of it, by openat2), and what may be opened: only regular files, as checked
after opening, and none of /proc. PID 1 opens them, and may do there what the container's user may
not: where containers share processes, read the environment of another. Left to others: who may ask
(`ccinit.agent`), moving the bytes (the owner plane's child).
"""

import errno
import os
import stat
from contextlib import ExitStack

from ccinit.errors import ConfigError, KernelError
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
    root = open_path(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY)
    try:
        made = into and _make(root, path, mode, owner)
        proc = _find_proc(root)
        descriptor = open_in_root(root, path, _SAFE | (os.O_WRONLY if into else os.O_RDONLY))
    finally:
        os.close(root)
    with ExitStack() as undo:
        undo.callback(os.close, descriptor)
        _begin(descriptor, path, proc, is_emptied=into and not made)
        undo.pop_all()
    return descriptor


def _find_proc(root: int) -> int | None:
    """Return the device number of /proc; None if there is none, which no container can bring about.

    Every mount of proc for the same processes has the same number.
    """
    try:
        proc = open_in_root(root, "/proc", os.O_PATH, follow_links=False)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    try:
        return os.fstat(proc).st_dev
    except OSError as error:
        raise kernel_error(error, "stat", "/proc") from error
    finally:
        os.close(proc)


def _begin(descriptor: int, path: str, proc: int | None, *, is_emptied: bool) -> None:
    """Check an opened file before a byte of it changes."""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_dev == proc:
            raise ConfigError("run.file", f"{path[:80]!r} is not a regular file")
        if is_emptied:
            os.ftruncate(descriptor, 0)
    except OSError as error:
        raise kernel_error(error, "ftruncate", path) from error


def _make(root: int, path: str, mode: int, owner: Identity) -> bool:
    """Make the file if it is missing; return whether it was made."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
    try:
        descriptor = open_in_root(root, path, flags, mode=0o600)
    except KernelError as error:
        if error.errno == errno.EEXIST:
            return False
        raise
    try:
        os.fchown(descriptor, owner.uid, owner.gid)
        os.fchmod(descriptor, mode & _MODE_BITS)
    except OSError as error:  # a disk that has just failed makes its file system read-only
        raise kernel_error(error, "fchown", path) from error
    finally:
        os.close(descriptor)
    return True
