"""Containers as folders below one root; each step of making and removing them is atomic.

A folder gets its container's name once its record is in it, and loses the name before it is
emptied, so whatever has a name is complete. A command locks the folder that it changes; what else
is locked in it is of `container`.
"""

import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError, DeadlineError, FormatError
from host_runtime.oci_runtime.container import Container, unknown
from host_runtime.oci_runtime.container_state import ContainerRecord, Status
from host_runtime.oci_runtime.file_lock import flock, is_at, try_lock

_NEW: Final = ".new-"
_GONE: Final = ".gone-"
_LOCK_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 0.02
_ABANDONED_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStore:
    """All containers below `root`."""

    root: Path

    @contextmanager
    def new(self, record: ContainerRecord) -> Iterator[Container]:
        """Make a container, locked; it is removed again if the caller fails.

        Raises:
            ConfigError: `container.exists`; `container.root`: others may write to the store, or
                its file system has no locks.
        """
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._require_own()
        folder = Path(tempfile.mkdtemp(prefix=_NEW, dir=self.root))
        lock = _open(folder)
        try:
            container = self._begin(folder, lock, record)
            try:
                yield container
            except BaseException:
                with suppress(OSError):  # the next removal takes the rest; why it failed is told
                    self.remove(container)
                raise
        finally:
            os.close(lock)

    @contextmanager
    def lock(self, name: str) -> Iterator[Container]:
        """Yield a container, to one command at a time.

        Raises:
            ConfigError: `container.unknown`; `container.root`, as in `new`.
            DeadlineError: `container.busy`: another command works on it.
        """
        deadline = time.monotonic() + _LOCK_SECONDS
        descriptor = self._open_named(name)
        try:
            while not try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise DeadlineError("container.busy", f"another command works on {name}")
                time.sleep(_RETRY_SECONDS)
            # Removed, and perhaps made anew, while this one waited.
            if not is_at(descriptor, self.root / name):
                raise unknown(name)
            yield Container(folder=self.root / name)
        finally:
            os.close(descriptor)

    def look(self, name: str) -> tuple[ContainerRecord, Status]:
        """Return a container's record and status, without waiting for its lock.

        Raises:
            ConfigError: `container.unknown`; `container.root`, as in `new`.
        """
        descriptor = self._open_named(name)
        try:
            is_busy = not try_lock(descriptor, fcntl.LOCK_SH)
            seen = Container(folder=self.root / name).look(is_busy=is_busy)
        except FileNotFoundError:
            raise unknown(name) from None  # removed meanwhile
        else:
            if not is_at(descriptor, self.root / name):  # and made anew
                raise unknown(name)
            return seen
        finally:
            os.close(descriptor)

    def members(self, sandbox: str) -> tuple[str, ...]:
        """Return the ids of the containers that stand for those of a sandbox's pod."""
        found = []
        for folder in self.root.iterdir():
            if folder.name.startswith((_NEW, _GONE)):
                continue
            try:
                record = Container(folder=folder).record()
            except (OSError, FormatError):  # removed meanwhile, or of another version
                continue
            if record.member and record.sandbox == sandbox:
                found.append(folder.name)
        return tuple(found)

    def remove(self, container: Container) -> None:
        """Remove a container with all that is in its folder, and what killed commands left.

        This creates no file: a full disk is one reason to remove containers.
        """
        shutil.rmtree(container.folder.rename(self.root / f"{_GONE}{secrets.token_hex(8)}"))
        for folder in (*self.root.glob(f"{_GONE}*"), *self.root.glob(f"{_NEW}*")):
            _remove_abandoned(folder)

    def _begin(self, folder: Path, lock: int, record: ContainerRecord) -> Container:
        """Make a container in a new folder, which is removed if that fails, as on a full disk."""
        try:
            flock(lock, fcntl.LOCK_EX)
            Container(folder=folder).write(record)
            return Container(folder=folder.rename(self.root / record.id))
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                detail = f"container {record.id} exists already"  # none of them is empty
                raise ConfigError("container.exists", detail) from error
            raise

    def _require_own(self) -> None:
        """Refuse a store in which another user could put a container: it names whom we signal."""
        status = self.root.stat()
        is_shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if is_shared or status.st_uid not in {0, os.geteuid()}:
            raise ConfigError("container.root", f"{self.root}: other users may write there")

    def _open_named(self, name: str) -> int:
        try:
            self._require_own()
            return _open(self.root / name)
        except FileNotFoundError:
            raise unknown(name) from None


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _remove_abandoned(folder: Path) -> None:
    """Remove what a command that was killed has left without a name."""
    try:
        lock = _open(folder)
    except FileNotFoundError:
        return
    try:
        age_seconds = time.time() - os.fstat(lock).st_mtime
        if age_seconds > _ABANDONED_SECONDS and try_lock(lock):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
