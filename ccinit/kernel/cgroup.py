"""cgroup2 directories: make, fill, limit, watch, kill, remove. The caller plans the tree.

Interface: Documentation/admin-guide/cgroup-v2.rst.
"""

import os
from collections.abc import Iterable

from ccinit.annotations import Self
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.small_files import write_setting

ROOT = "/sys/fs/cgroup"
MAX = "max"


class Cgroup:
    """One directory of the tree."""

    def __init__(self, path: str = ROOT) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<Cgroup {self.path}>"

    def create(self, name: str) -> Self:
        """Make the child `name`, or use the one that exists.

        Raises:
            KernelError: the kernel refused.
        """
        child = type(self)(f"{self.path}/{name}")
        try:
            os.mkdir(child.path, 0o755)
        except FileExistsError:
            pass
        except OSError as error:
            raise kernel_error(error, "mkdir", child.path) from error
        return child

    def remove(self) -> None:
        """Remove the directory; EBUSY while a process or a child is in it."""
        try:
            os.rmdir(self.path)
        except OSError as error:
            raise kernel_error(error, "rmdir", self.path) from error

    def id(self) -> int:
        """Return the number that the kernel has for this group: the directory's inode."""
        try:
            return os.stat(self.path).st_ino
        except OSError as error:
            raise kernel_error(error, "stat", self.path) from error

    def add(self, pid: int) -> None:
        """Move a process here."""
        self._write("cgroup.procs", str(pid))

    def kill(self) -> None:
        """Kill every process here and below at once."""
        self._write("cgroup.kill", "1")

    def enable(self, controllers: Iterable[str]) -> None:
        """Let the children of this group use `controllers` (`memory`, `pids`, `cpu`)."""
        self._write("cgroup.subtree_control", " ".join(f"+{name}" for name in controllers))

    def set_memory(self, *, max_bytes: int | None = None, min_bytes: int = 0) -> None:
        """Limit the memory (None: no limit), and keep `min_bytes` from being reclaimed."""
        self._write("memory.max", MAX if max_bytes is None else str(max_bytes))
        self._write("memory.min", str(min_bytes))

    def set_processes(self, max_count: int) -> None:
        """Limit the number of processes and threads."""
        self._write("pids.max", str(max_count))

    def is_populated(self) -> bool:
        """Return whether there is a process here or below."""
        return self._count("cgroup.events", "populated") == 1

    def oom_kills(self) -> int:
        """Return how many processes here and below were killed because memory ran out."""
        return self._count("memory.events", "oom_kill")

    def memory_bytes(self) -> int:
        """Return the memory in use here and below."""
        return int(self._read("memory.current"))

    def processor_us(self) -> int:
        """Return the processor time used here and below, in microseconds."""
        return self._count("cpu.stat", "usage_usec")

    def processes(self) -> int:
        """Return the number of processes and threads here and below."""
        return int(self._read("pids.current"))

    def _count(self, file: str, key: str) -> int:
        for line in self._read(file).splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
        return 0

    def _write(self, file: str, value: str) -> None:
        write_setting(f"{self.path}/{file}", value.encode(), "cgroup")

    def _read(self, file: str) -> str:
        path = f"{self.path}/{file}"
        try:
            with open(path, encoding="ascii") as stream:
                return stream.read()
        except OSError as error:
            raise kernel_error(error, "cgroup", path) from error
