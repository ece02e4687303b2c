"""A short-lived private folder for Unix sockets: their paths must stay below 108 bytes.

A process that uses one holds a lock on it, which the kernel releases if the process is killed. So
whoever makes the next one removes what killed processes left. Only folders of this user are
removed, and a folder is locked before it gets its name.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError

_NEW: Final = "ccinit-new-"
_LOCKED: Final = "ccinit-run-"


@contextmanager
def open_socket_folder() -> Iterator[Path]:
    """Yield a new folder that only this user can enter; it is removed with its content.

    Raises:
        ConfigError: `sockets.folder`: others could put a folder of theirs in its place.
    """
    parent = _runtime_folder() or Path(tempfile.gettempdir())
    _require_kept(parent)
    for path in parent.glob(f"{_LOCKED}*"):
        _remove_abandoned(path)
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
    lock = _lock(new)
    folder = new.rename(new.with_name(_LOCKED + new.name.removeprefix(_NEW)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _runtime_folder() -> Path | None:
    """Return XDG_RUNTIME_DIR, if it exists and is this user's.

    After `su` or `sudo` it may belong to the previous user, who could put sockets there, and it
    disappears once that user has logged out, while what they started goes on.
    """
    folder = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if not folder.is_absolute() or not folder.is_dir():
        return None
    return folder if folder.stat().st_uid == os.geteuid() else None


def _require_kept(parent: Path) -> None:
    """Refuse a folder in which other users may rename our files."""
    status = parent.stat()
    if status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & stat.S_IWOTH or status.st_uid not in {0, os.geteuid()}:
        raise ConfigError(
            "sockets.folder",
            f"{parent}: others may replace what is in it: name another by TMPDIR",
        )


def _remove_abandoned(folder: Path) -> None:
    with suppress(OSError):  # in use, another user's, or gone by now
        lock = _lock(folder)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _lock(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
