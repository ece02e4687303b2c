"""A container as a folder: its record, and the locks that show who is there.

* A command locks the folder that it changes: `ContainerStore.lock`.
* The container's life locks a file in it, which shows everyone that the life is there.
* QEMU and the processes beside it lock another file, since they end a little later than a life that
  is killed.

The kernel releases a lock when the last process that holds it ends. So neither a killed process,
nor a reused pid, nor a host that was switched off looks like a guest.
"""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from host_runtime.oci_runtime.container_state import (
    ContainerRecord,
    Status,
    encode_record,
    parse_record,
    status_of,
)
from host_runtime.oci_runtime.file_lock import is_at, try_lock
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
_LOOK_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.02


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
            return not try_lock(descriptor, fcntl.LOCK_SH)
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
        while not try_lock(descriptor, kind):
            if time.monotonic() > deadline:  # somebody who looks has it for a moment
                os.close(descriptor)
                raise ConfigError(
                    "container.life", f"{self.folder}: another process has its {name}"
                )
            time.sleep(_RETRY_SECONDS)
        if not is_at(descriptor, self.folder / name):  # replaced: we hold the wrong file
            os.close(descriptor)
            raise unknown(self.folder.name)
        return descriptor

    def _life(self) -> int | None:
        """Return the pid of the container's life (0: not written yet), or None without one."""
        try:
            descriptor = os.open(self.folder / LIFE, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if try_lock(descriptor, fcntl.LOCK_SH):  # others may look at the same time
                return None
            return int(os.pread(descriptor, _PID_BYTES, 0) or b"0")
        finally:
            os.close(descriptor)


def unknown(name: str) -> ConfigError:
    """Return the refusal of a container that is not there, or no longer."""
    return ConfigError("container.unknown", f"container {name} does not exist")
