"""The cgroup of a container: its host processes enter the one that its engine has named.

The process that is the container makes the cgroup, or has systemd make it, and enters it before it
starts what belongs to the guest. So QEMU, the vTPM and the rest are born there, and all memory of
the guest is counted there.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from host_runtime.oci_runtime.bundle import memory_limit
from host_runtime.oci_runtime.cgroup import (
    MemoryNeed,
    enter_cgroup,
    find_hierarchies,
    make_cgroup,
    remove_cgroup,
)
from host_runtime.oci_runtime.cgroup_path import parse_cgroup_path
from host_runtime.oci_runtime.container import FILE_MODE, Container
from host_runtime.oci_runtime.file_lock import locked
from host_runtime.oci_runtime.life import say
from host_runtime.oci_runtime.scope_unit import parse_scope_unit
from host_runtime.oci_runtime.systemd import await_no_scope, enter_scope, require_no_scope
from measured_boot.command_line.files import write_whole

_MADE: Final = "cgroup"
"""File of a container: the cgroup that it has entered, and the folders that it has made for it."""

_MIB: Final = 1 << 20


def take_cgroup(container: Container, guest_mib: int = 0) -> None:
    """Enter the cgroup that a container's record names, if it does.

    Args:
        container: of this process.
        guest_mib: the memory of its guest; 0 for a process that only waits.

    Raises:
        ConfigError: `cgroup.path`, `cgroup.none`, `cgroup.taken`, `cgroup.memory`,
            `cgroup.systemd`: as `parse_cgroup_path` and `make_cgroup`, or `parse_scope_unit`,
            `require_no_scope` and `enter_scope`.
        OSError: with the name of what could not be made or written.
    """
    record = container.record()
    if record.cgroup is None:
        return
    if not record.cgroup:
        say("the bundle names no cgroup: what runs here is counted where its caller is")
        return
    need = None
    if guest_mib:
        # A sandbox's own resources are meant for a process that waits; its pod's cgroup has those
        # that count.
        limit = None if record.sandbox else memory_limit(record.resources)
        need = MemoryNeed(guest_bytes=guest_mib * _MIB, limit_bytes=limit)
    hierarchies = find_hierarchies()
    if unit := parse_scope_unit(record.cgroup):
        require_no_scope(hierarchies, unit, need)
        _note(container, record.cgroup)
        enter_scope(hierarchies, unit, need)
        return
    names = parse_cgroup_path(record.cgroup)
    with locked(container.folder.parent):  # from the look at the others to the note
        _require_no_other(container, record.cgroup)
        _note(container, record.cgroup, make_cgroup(hierarchies, names, need))
    enter_cgroup(hierarchies, names)


def _require_no_other(container: Container, cgroup: str) -> None:
    """Require that no other container has it: the deletion of one would wait for the other's end.

    One that has ended leaves it empty, and looks like nobody's.
    """
    for path in container.folder.parent.glob(f"[!.]*/{_MADE}"):
        if path.parent == container.folder:
            continue
        with suppress(FileNotFoundError, ValueError):  # deleted meanwhile, or damaged
            if json.loads(path.read_text())[0] == cgroup:
                raise ConfigError(
                    "cgroup.taken",
                    f"{cgroup} is the cgroup of container {path.parent.name}: delete that first",
                )


def _note(container: Container, cgroup: str, made: Sequence[Path] = ()) -> None:
    note = json.dumps([cgroup, [str(folder) for folder in made]]).encode()
    write_whole(container.folder / _MADE, note, FILE_MODE)


def leave_no_cgroup(container: Container) -> None:
    """Leave nothing of the cgroup that a container has made, once its processes have ended.

    Raises:
        DeadlineError: `cgroup.busy`: it has others.
    """
    with suppress(FileNotFoundError):
        cgroup, made = json.loads((container.folder / _MADE).read_text())
        hierarchies = find_hierarchies()
        if unit := parse_scope_unit(cgroup):
            await_no_scope(hierarchies, unit)
        else:
            folders = [Path(folder) for folder in made]
            remove_cgroup(hierarchies, parse_cgroup_path(cgroup), folders)
