"""Makes, enters and removes a cgroup in every hierarchy of this host that has a controller.

That is all of cgroup version 1, the one of version 2, or both on a host that mixes them. A path is
walked name by name from the hierarchy's root, through folders of that very hierarchy, so it leads
nowhere else whatever lies there.

Specification: Linux, Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst; cgroups(7), proc(5).
"""

import errno
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ccinit.errors import ConfigError, DeadlineError

_MOUNTS: Final = Path("/proc/self/mountinfo")
_PROCESSES: Final = "cgroup.procs"
_AVAILABLE: Final = "cgroup.controllers"
_ENABLED: Final = "cgroup.subtree_control"
_CPU_SETS: Final = ("cpuset.cpus", "cpuset.mems")
_COUNTED: Final = ("cpu", "io", "memory", "pids")
_MEMORY: Final = "memory"
_UNIFIED_LIMIT: Final = "memory.max"
_LIMIT: Final = "memory.limit_in_bytes"
_SELF: Final = "0"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE: Final = 0o755
_MIB: Final = 1 << 20
_MAKE_SECONDS: Final = 5.0
_REMOVE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """What a guest takes of its cgroup.

    Attributes:
        guest_bytes: memory of the machine, without QEMU's own.
        limit_bytes: what the cgroup may have by its bundle; None leaves it to those above.
    """

    guest_bytes: int
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """One tree of cgroups that has at least one controller.

    Attributes:
        root: where it is mounted.
        is_unified: of version 2, where a cgroup has the controllers that its parent enables.
        has_memory: whether it counts memory.
    """

    root: Path
    is_unified: bool
    has_memory: bool

    @property
    def limit_file(self) -> str:
        """What bounds the memory of a cgroup."""
        return _UNIFIED_LIMIT if self.is_unified else _LIMIT


def find_hierarchies(mounts: Path = _MOUNTS) -> tuple[Hierarchy, ...]:
    """Return the hierarchies with a controller; `mounts` is a file as /proc/self/mountinfo."""
    found: dict[str, Hierarchy] = {}
    for line in mounts.read_text().splitlines():
        place, _, source = line.partition(" - ")
        device, top, folder = place.split()[2:5]
        kind, _, options = source.split()
        root = Path(folder)
        if top != "/" or device in found:  # a part of one, or one again, as for a chroot
            continue
        if kind == "cgroup" and ",name=" not in options:
            has_memory = _MEMORY in options.split(",")
            found[device] = Hierarchy(root=root, is_unified=False, has_memory=has_memory)
        elif kind == "cgroup2" and (known := (root / _AVAILABLE).read_text().split()):
            found[device] = Hierarchy(root=root, is_unified=True, has_memory=_MEMORY in known)
    return tuple(found.values())


def make_cgroup(
    hierarchies: Sequence[Hierarchy], names: Sequence[str], need: MemoryNeed | None
) -> tuple[Path, ...]:
    """Make a cgroup in each hierarchy; return the folders that are new, those below first.

    If it fails, everything is as before.

    Args:
        hierarchies: of this host.
        names: the way to it from each root, as `parse_cgroup_path` returns it.
        need: of a guest; None for a process that only waits.

    Raises:
        ConfigError: `cgroup.none`: memory is not counted there; `cgroup.taken`: it has processes,
            or cgroups below it; `cgroup.memory`: the guest's memory exceeds the limit of the
            cgroup, or of one above it.
        OSError: with the name of what could not be made.
    """
    if not any(hierarchy.has_memory for hierarchy in hierarchies):
        raise ConfigError("cgroup.none", "no cgroup of this host counts memory")
    made: list[Path] = []
    try:
        for hierarchy in hierarchies:
            _make_in(hierarchy, names, need, made)
    except BaseException:
        _remove_unused(reversed(made))
        raise
    return tuple(reversed(made))


def _make_in(
    hierarchy: Hierarchy, names: Sequence[str], need: MemoryNeed | None, made: list[Path]
) -> None:
    """Make a cgroup in one hierarchy; what was made is added to `made`, whatever comes then."""
    deadline = time.monotonic() + _MAKE_SECONDS
    while True:
        try:
            with _Walk(hierarchy) as walk:
                for name in names:
                    walk.make(name, made)
                    walk.require_room(need)
                walk.require_free()
                walk.limit(need)
            break
        except OSError as error:  # the end of another container has removed a folder meanwhile
            if error.errno not in {errno.ENOENT, errno.ENODEV} or time.monotonic() > deadline:
                raise


def require_room(hierarchy: Hierarchy, names: Sequence[str], need: MemoryNeed | None) -> bool:
    """Require that a guest fits into a cgroup and those above it, as far as they are there.

    Return whether it is there itself.

    Raises:
        ConfigError: `cgroup.memory`, `cgroup.none`: as `make_cgroup`; `cgroup.path`.
    """
    if need is not None and need.limit_bytes is not None:
        _require_enough(hierarchy.root.joinpath(*names), need.limit_bytes, need)
    with _Walk(hierarchy) as walk:
        for name in names:
            try:
                walk.enter(name)
            except FileNotFoundError:
                return False
            walk.require_room(need)
        walk.require_counted()
    return True


def enter_cgroup(hierarchies: Sequence[Hierarchy], names: Sequence[str]) -> None:
    """Move this process into a cgroup that was made, so that whatever it starts is born there.

    Raises:
        ConfigError: `cgroup.path`; OSError: with the name of the file that could not be written.
    """
    for hierarchy in hierarchies:
        with _Walk(hierarchy) as walk:
            for name in names:
                walk.enter(name)
            walk.write(_PROCESSES, _SELF)


def remove_cgroup(
    hierarchies: Sequence[Hierarchy], names: Sequence[str], made: Sequence[Path]
) -> None:
    """Remove a cgroup whose processes have ended, and of the folders in `made` those not in use.

    Raises:
        DeadlineError: `cgroup.busy`: it has others.
    """
    deadline = time.monotonic() + _REMOVE_SECONDS
    for hierarchy in hierarchies:
        where = hierarchy.root.joinpath(*names)
        while True:
            try:
                # An engine may have removed it, with the cgroup of the whole pod.
                with suppress(FileNotFoundError):
                    where.rmdir()
                break
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                if time.monotonic() > deadline:  # ours leave it a little after their locks
                    raise DeadlineError("cgroup.busy", f"{where} still has processes") from error
            time.sleep(_RETRY_SECONDS)
    _remove_unused(made)


def _remove_unused(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # others have theirs below it, or have removed it
            folder.rmdir()


def _require_enough(path: Path, limit_bytes: int, need: MemoryNeed) -> None:
    if limit_bytes < need.guest_bytes:
        raise ConfigError(
            "cgroup.memory",
            f"{path} may use {limit_bytes // _MIB} MiB: too little for the guest's"
            f" {need.guest_bytes // _MIB} MiB and what QEMU uses beside them",
        )


class _Walk:
    """A way down a hierarchy, by descriptors."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy
        self.path = hierarchy.root
        self._folder = os.open(hierarchy.root, _FOLDER)
        self._device = os.fstat(self._folder).st_dev

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)

    def make(self, name: str, made: list[Path]) -> None:
        """Step into the cgroup of that name; if it is missing, it is made and added to `made`."""
        if self._hierarchy.is_unified:
            self._enable()
        try:
            os.mkdir(name, _MODE, dir_fd=self._folder)
            made.append(self.path / name)  # whatever comes then
        except FileExistsError:
            pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path / name)) from error
        sets = {file: self._read(file) for file in _CPU_SETS if self._has(file)}
        self.enter(name)
        if not self._hierarchy.is_unified:  # there they are inherited; here nothing may enter
            for file, value in sets.items():
                if not self._read(file):
                    self.write(file, value)

    def enter(self, name: str) -> None:
        """Step into the cgroup of that name."""
        self.path /= name
        try:
            below = os.open(name, _FOLDER, dir_fd=self._folder)
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                raise self._no_cgroup() from error
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        os.close(self._folder)
        self._folder = below
        if os.fstat(below).st_dev != self._device:
            raise self._no_cgroup()

    def require_room(self, need: MemoryNeed | None) -> None:
        """Require that the limit of this cgroup, if any, is no less than a guest's memory."""
        if need is None or not self._hierarchy.has_memory:
            return
        limit_file = self._hierarchy.limit_file
        if not self._has(limit_file) or (limit := self._read(limit_file)) == "max":
            return
        _require_enough(self.path, int(limit), need)

    def require_counted(self) -> None:
        """Require that the memory of this cgroup is counted, if that of its hierarchy is."""
        if self._hierarchy.has_memory and not self._has(self._hierarchy.limit_file):
            raise ConfigError("cgroup.none", f"{self.path}: memory is not counted below it")

    def require_free(self) -> None:
        """Require that nobody uses this cgroup."""
        with os.scandir(self._folder) as entries:
            below = any(entry.is_dir(follow_symlinks=False) for entry in entries)
        if below or self._read(_PROCESSES):
            raise ConfigError("cgroup.taken", f"{self.path} has processes, or cgroups below it")

    def limit(self, need: MemoryNeed | None) -> None:
        """Bound the memory of this cgroup as its bundle says."""
        self.require_counted()
        hierarchy = self._hierarchy
        if hierarchy.has_memory and need is not None and need.limit_bytes is not None:
            self.write(hierarchy.limit_file, str(need.limit_bytes))
        self.require_room(need)

    def write(self, name: str, value: str) -> None:
        """Write one of this cgroup's files."""
        try:
            file = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
            try:
                os.write(file, value.encode())
            finally:
                os.close(file)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path / name)) from error

    def _enable(self) -> None:
        """Have what is below counted; what cannot be is found where it is missing."""
        enabled = self._read(_ENABLED).split()
        for name in self._read(_AVAILABLE).split():
            if name in _COUNTED and name not in enabled:
                with suppress(OSError):
                    self.write(_ENABLED, f"+{name}")

    def _has(self, name: str) -> bool:
        return os.access(name, os.F_OK, dir_fd=self._folder)

    def _read(self, name: str) -> str:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
        with os.fdopen(file) as text:
            return text.read().strip()

    def _no_cgroup(self) -> ConfigError:
        return ConfigError("cgroup.path", f"{self.path} is not a cgroup of its hierarchy")
