"""Locks of files and folders, `flock(2)`: the kernel releases one with its last holder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccinit.errors import ConfigError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time do what the block does in a folder; others wait."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file or folder unless another process has it; return whether it is locked.

    Raises:
        ConfigError: as `flock`.
    """
    try:
        flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def flock(descriptor: int, operation: int) -> None:
    """Call `flock(2)`.

    Raises:
        BlockingIOError: another process has the lock, and `operation` has LOCK_NB.
        ConfigError: `container.root`: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        detail = f"cannot lock {place}: {error.strerror}; is --root on a local disk?"
        raise ConfigError("container.root", detail) from error


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at a path, and not one that was replaced."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
