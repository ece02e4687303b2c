"""Containers as folders below one root; each step of making and removing them is atomic.

A folder gets its container's name once its record is in it, and loses the name before it is
emptied, so whatever has a name is complete. There are three locks:

* a command locks the folder that it changes;
* the container's life locks a file in it, which shows everyone that the life is there;
* QEMU and the processes beside it lock another file, since they end a little later than a life that
  is killed.

The kernel releases a lock when the last process that holds it ends. So neither a killed process,
nor a reused pid, nor a host that was switched off looks like a guest.
"""

import errno
import fcntl
import os
import secrets
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError, DeadlineError, FormatError
from host_runtime.oci_runtime.container_state import (
    ContainerRecord,
    Status,
    encode_record,
    parse_record,
    status_of,
)
from host_runtime.oci_runtime.held_file import kill_holders
from measured_boot.command_line.files import naming_place, write_whole

_PID_BYTES: Final = 16
_RECORD: Final = "container.json"
LIFE: Final = "life"
"""File in a container's folder that its life has locked."""

END: Final = "end"
"""File that has the exit status of a life that has ended by itself, else nothing but spaces."""

END_BYTES: Final = 16

FILE_MODE: Final = 0o600

_MACHINE: Final = "machine"
_MEMBER: Final = "member-"
_NEW: Final = ".new-"
_GONE: Final = ".gone-"
_LOCK_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.02
_ABANDONED_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container's folder. Only a caller of `ContainerStore.lock` or `new` may change it."""

    folder: Path

    def record(self) -> ContainerRecord:
        """Return the container's record.

        Raises:
            FormatError: `container.record`.
        """
        return parse_record((self.folder / _RECORD).read_bytes())

    def write(self, record: ContainerRecord) -> None:
        """Replace the record atomically: readers find the old one or the new one."""
        write_whole(self.folder / _RECORD, encode_record(record).encode(), FILE_MODE)

    def look(self, *, is_busy: bool = False) -> tuple[ContainerRecord, Status]:
        """Return the record and the status that belongs to it; see `status_of`."""
        record = self.record()  # first: a life begins before it is recorded
        return record, status_of(record, is_alive=self.is_alive(), is_busy=is_busy)

    def hold_life(self) -> None:
        """Make this process the container's life, until the process ends.

        Raises:
            ConfigError: `container.life`: it has one; `container.unknown`: it was removed.
        """
        descriptor = self._hold(LIFE)
        with naming_place(self.folder / LIFE):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        # What is written at the end takes its place: the file system may be full by then.
        end = os.open(self.folder / END, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        with naming_place(self.folder / END), os.fdopen(end, "wb") as file:
            file.write(b" " * END_BYTES)

    def note_end(self, status: int) -> None:
        """Leave the exit status of this process, the life, for those that wait for its end."""
        with (self.folder / END).open("r+") as file:
            file.write(str(status).rjust(END_BYTES))

    def was_killed(self) -> bool:
        """Whether the container had a life that left no exit status."""
        path = self.folder / END
        return path.exists() and not path.read_bytes().strip()

    def hold_member(self, name: str, bundle: str) -> int:
        """Claim, until this process ends, to be the one that stands for a container of this pod.

        Raises:
            ConfigError: `container.life`: another does.
        """
        descriptor = self._hold(f"{_MEMBER}{name}")
        with naming_place(self.folder / f"{_MEMBER}{name}"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, os.fsencode(bundle), 0)
        return descriptor

    def member_bundles(self) -> tuple[Path, ...]:
        """Return the bundles of the current, or last, members of this pod."""
        found = []
        for path in self.folder.glob(f"{_MEMBER}*"):
            with suppress(FileNotFoundError):  # another command has removed the container meanwhile
                found.append(os.fsdecode(path.read_bytes()))
        return tuple(Path(bundle) for bundle in found if bundle)

    @contextmanager
    def without_life(self) -> Iterator[None]:
        """Keep the container lifeless: a life left by a killed `create` may be about to begin.

        Raises:
            ConfigError: `container.life`: it has one.
        """
        descriptor = self._hold(LIFE, fcntl.LOCK_SH)  # shared, as observers do, unlike a life
        try:
            yield
        finally:
            os.close(descriptor)

    def hold_machine(self) -> int:
        """Return a locked descriptor: every process that inherits it is part of the machine.

        Raises:
            ConfigError: `container.life`: there is one.
        """
        return self._hold(_MACHINE)

    def is_alive(self) -> bool:
        """Whether the container has a life."""
        return self._life() is not None

    def has_machine(self) -> bool:
        """Whether the machine is there, with a life or without: if so, its disks are in use."""
        try:
            descriptor = os.open(self.folder / _MACHINE, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def kill_machine(self) -> None:
        """Kill what is left of a machine, which hangs: it has been told to end with its life."""
        kill_holders(self.folder / _MACHINE)

    def send(self, number: int) -> bool:
        """Send a signal to the container's life; return whether there is one."""
        pid = self._life()
        if not pid:
            return False
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            if not self.is_alive():  # so what was just opened may be another
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _hold(self, name: str, kind: int = fcntl.LOCK_EX) -> int:
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        deadline = time.monotonic() + _LOOK_SECONDS
        while not _try_lock(descriptor, kind):
            if time.monotonic() > deadline:  # somebody who looks has it for a moment
                os.close(descriptor)
                raise ConfigError(
                    "container.life", f"{self.folder}: another process has its {name}"
                )
            time.sleep(_RETRY_SECONDS)
        if not _is_at(descriptor, self.folder / name):  # replaced: we hold the wrong file
            os.close(descriptor)
            raise _unknown(self.folder.name)
        return descriptor

    def _life(self) -> int | None:
        """Return the pid of the container's life (0: not written yet), or None without one."""
        try:
            descriptor = os.open(self.folder / LIFE, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if _try_lock(descriptor, fcntl.LOCK_SH):  # others may look at the same time
                return None
            return int(os.pread(descriptor, _PID_BYTES, 0) or b"0")
        finally:
            os.close(descriptor)


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
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise DeadlineError("container.busy", f"another command works on {name}")
                time.sleep(_RETRY_SECONDS)
            # Removed, and perhaps made anew, while this one waited.
            if not _is_at(descriptor, self.root / name):
                raise _unknown(name)
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
            is_busy = not _try_lock(descriptor, fcntl.LOCK_SH)
            seen = Container(folder=self.root / name).look(is_busy=is_busy)
        except FileNotFoundError:
            raise _unknown(name) from None  # removed meanwhile
        else:
            if not _is_at(descriptor, self.root / name):  # and made anew
                raise _unknown(name)
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
            _flock(lock, fcntl.LOCK_EX)
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
            raise _unknown(name) from None


def _unknown(name: str) -> ConfigError:
    return ConfigError("container.unknown", f"container {name} does not exist")


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        _flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flock(descriptor: int, operation: int) -> None:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        detail = f"cannot lock {place}: {error.strerror}; is --root on a local disk?"
        raise ConfigError("container.root", detail) from error


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove_abandoned(folder: Path) -> None:
    """Remove what a command that was killed has left without a name."""
    try:
        lock = _open(folder)
    except FileNotFoundError:
        return
    try:
        age_seconds = time.time() - os.fstat(lock).st_mtime
        if age_seconds > _ABANDONED_SECONDS and _try_lock(lock):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
