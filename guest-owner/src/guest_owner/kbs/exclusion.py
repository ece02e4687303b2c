"""Mutual exclusion of the processes that work on one state directory.

`kbs serve` locks the directory itself for as long as it runs. Commands change files in it
meanwhile, and so does the server (rollback counters, administration). A process whose write depends
on what it has read holds `changes.lock` from before the read until after the write, so that no
change builds on what another one has replaced. The kernel releases both locks if a process dies.
"""

import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from guest_owner.files import PRIVATE_MODE, find_mode

LOCK_FILE: Final = "changes.lock"
WAIT_SECONDS: Final = 5.0  # for a change, which takes milliseconds; not for the end of a backup
_STEP_SECONDS: Final = 0.01

_mine = threading.local()


def require_state(root: Path) -> None:
    """Check that there is a state directory.

    Raises:
        ConfigError: `state.missing`; `state.directory`, it is something else; `state.read`.
    """
    try:
        mode = find_mode(root)
    except OSError as error:  # such as a parent folder that may not be entered
        raise ConfigError("state.read", f"cannot read {root}: {error.strerror}") from error
    if mode is None:
        detail = f"{root} does not exist; make it with `guest-owner kbs init`"
        raise ConfigError("state.missing", detail)
    if not stat.S_ISDIR(mode):
        raise ConfigError(
            "state.directory", f"{root} is not a directory; the state of a KBS is one"
        )


@contextmanager
def held_alone(directory: Path, why: str) -> Iterator[None]:
    """Hold the lock on a directory, which only one process can.

    Raises:
        ConfigError: `state.held`, another process does, as `why` explains; `state.lock`.
    """
    descriptor = _open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _try_lock(descriptor, directory):
            raise ConfigError("state.held", f"cannot lock {directory}: {why}")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def changing(root: Path) -> Iterator[None]:
    """Hold the right to change the files of a state directory; reentrant within a thread.

    Raises:
        ConfigError: `state.busy`, another process has held it for five seconds; `state.lock`;
            `state.read`; as `require_state`.
    """
    held: set[Path] = getattr(_mine, "held", set())
    if root in held:
        yield
        return
    require_state(root)
    descriptor = _open_lock(root / LOCK_FILE)
    try:
        _wait_for(descriptor, root)
        _mine.held = held | {root}
        try:
            yield
        finally:
            _mine.held = held
    finally:
        os.close(descriptor)


@contextmanager
def changing_if_free(root: Path) -> Iterator[bool]:
    """Hold the right during the block unless another process has it; yield whether it is held.

    Raises:
        ConfigError: `state.lock`, `state.read`.
    """
    if root in getattr(_mine, "held", set()):
        yield True
        return
    descriptor = _open_lock(root / LOCK_FILE)
    try:
        yield _try_lock(descriptor, root / LOCK_FILE)
    finally:
        os.close(descriptor)


def may_change(root: Path) -> bool:
    """Whether nobody else holds the right to change a state directory's files at this moment.

    Raises:
        ConfigError: `state.lock`, `state.read`.
    """
    with changing_if_free(root) as is_free:
        return is_free


def busy(root: Path) -> ConfigError:
    """Return the error for a wait of `WAIT_SECONDS` that was in vain."""
    held = f"another command has held {root / LOCK_FILE} for {WAIT_SECONDS:.0f} s"
    return ConfigError("state.busy", f"{held}: end it, try again")


def _wait_for(descriptor: int, root: Path) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not _try_lock(descriptor, root / LOCK_FILE):
        if time.monotonic() > end:
            raise busy(root)
        time.sleep(_STEP_SECONDS)


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a network file system may have no locks
        detail = f"cannot lock {path}: {error.strerror}; is it on a local disk?"
        raise ConfigError("state.lock", detail) from error
    return True


def _open_lock(path: Path) -> int:
    return _open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, PRIVATE_MODE)
    except OSError as error:
        raise ConfigError("state.read", f"cannot open {path}: {error.strerror}") from error
