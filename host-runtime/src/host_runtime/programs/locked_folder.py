"""A new folder that does not stay for good if its maker is killed.

Its maker holds a lock on it, which the kernel releases if the process is killed. So whoever makes
the next one with the same prefix removes what killed processes left. Only folders of this user are
removed.
"""

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder that only this user can enter; it is removed with its content.

    A caller that gives it another name keeps it.

    Raises:
        OSError: with the name of what cannot be made or locked.
    """
    for path in parent.glob(f"{glob.escape(prefix)}*"):
        _remove_abandoned(path)
    folder, lock = _make(parent, prefix)
    try:
        yield folder
    finally:
        if _is_at(lock, folder):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = _lock(folder, fcntl.LOCK_EX)
        except FileNotFoundError:  # as below
            continue
        except BaseException:
            folder.rmdir()
            raise
        if _is_at(lock, folder):
            return folder, lock
        os.close(lock)  # somebody has removed it, not locked as it was, as an abandoned one


def _remove_abandoned(folder: Path) -> None:
    with suppress(OSError):  # in use, another user's, or gone by now
        lock = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _lock(folder: Path, kind: int) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)
    except OSError as error:
        os.close(descriptor)
        raise type(error)(error.errno, error.strerror, str(folder)) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False
