"""Has systemd make a cgroup for this process: a transient scope, as runc has it made.

Only systemd may make cgroups where it manages them; it is asked by its own `busctl`. The scope goes
by itself when its last process has ended, and whatever fails, nothing of it stays.

Specification: org.freedesktop.systemd1(5) (StartTransientUnit), systemd.scope(5),
systemd.resource-control(5).
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ccinit.errors import ChildError, ConfigError, DeadlineError
from host_runtime.oci_runtime.cgroup import Hierarchy, MemoryNeed, require_room
from host_runtime.oci_runtime.scope_unit import ScopeUnit
from host_runtime.programs.process import run
from host_runtime.programs.tools import Tools

_MANAGER: Final = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)
_SIGNATURE: Final = "ssa(sv)a(sa(sv))"
_OWN: Final = Path("/proc/self/cgroup")
_UNIFIED: Final = "0::"
_SECONDS: Final = 30.0  # systemd has other work, such as the start of its host
_REMOVE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.02


def require_no_scope(
    hierarchies: Sequence[Hierarchy], unit: ScopeUnit, need: MemoryNeed | None
) -> None:
    """Require that a scope can be made for this process, as far as is known without making it.

    Args:
        hierarchies: of this host.
        unit: of the scope.
        need: of a guest; None for a process that only waits.

    Raises:
        ConfigError: `cgroup.none`: memory is not counted there; `cgroup.taken`: there is such a
            scope; `cgroup.memory`, `cgroup.path`: as `require_room`; `cgroup.systemd`: this user's
            systemd is not asked.
    """
    unified = _unified(hierarchies)
    if not unified:
        raise ConfigError("cgroup.none", "systemd's cgroups of version 2 do not count memory here")
    if os.geteuid() != 0:
        raise ConfigError(
            "cgroup.systemd",
            f"{unit.name}: only root's containers may be in systemd's cgroups:"
            ' leave guests in the caller\'s (cgroup = "caller")',
        )
    for hierarchy in unified:
        if require_room(hierarchy, unit.names, need):
            path = hierarchy.root.joinpath(*unit.names)
            raise ConfigError("cgroup.taken", f"{path} is there already")


def enter_scope(hierarchies: Sequence[Hierarchy], unit: ScopeUnit, need: MemoryNeed | None) -> None:
    """Move this process into a new scope, so that whatever it starts is born there.

    Raises:
        ConfigError: `cgroup.systemd`: systemd does not make it; `cgroup.memory`, `cgroup.none`: as
            `require_room`, by what systemd has made above it.
    """
    _start(unit, need)
    _await_entry(unit)
    for hierarchy in _unified(hierarchies):
        require_room(hierarchy, unit.names, need)


def await_no_scope(hierarchies: Sequence[Hierarchy], unit: ScopeUnit) -> None:
    """Wait until systemd has removed a scope whose processes have ended.

    Raises:
        DeadlineError: `cgroup.busy`: it has others.
    """
    deadline = time.monotonic() + _REMOVE_SECONDS
    for hierarchy in _unified(hierarchies):
        path = hierarchy.root.joinpath(*unit.names)
        while path.exists():
            if time.monotonic() > deadline:
                raise DeadlineError("cgroup.busy", f"{path} still has processes")
            time.sleep(_RETRY_SECONDS)


def _unified(hierarchies: Sequence[Hierarchy]) -> tuple[Hierarchy, ...]:
    return tuple(one for one in hierarchies if one.is_unified and one.has_memory)


def _start(unit: ScopeUnit, need: MemoryNeed | None) -> None:
    try:
        command = (*Tools().command("busctl"), *_call(unit, os.getpid(), need))
        run(command, environment=Tools().environment(), seconds=_SECONDS)
    except (ChildError, ConfigError, DeadlineError) as error:
        raise ConfigError(
            "cgroup.systemd", f"systemd does not make {unit.name}: {error.detail}"
        ) from error


def _call(unit: ScopeUnit, pid: int, need: MemoryNeed | None) -> tuple[str, ...]:
    """Return the arguments of `busctl`: each property with its type and value."""
    properties = [
        ("Description", "s", "ccinit-runtime's container"),
        ("Slice", "s", unit.slice),
        ("PIDs", "au", "1", str(pid)),
        # All controllers count there, and an OOM kill ends no more than the kernel has chosen.
        ("Delegate", "b", "true"),
        ("MemoryAccounting", "b", "true"),
        ("DefaultDependencies", "b", "false"),
        ("CollectMode", "s", "inactive-or-failed"),
    ]
    if need is not None and need.limit_bytes is not None:
        properties.append(("MemoryMax", "t", str(need.limit_bytes)))
    words = [word for one in properties for word in one]
    body = (unit.name, "fail", str(len(properties)), *words, "0")
    return ("--quiet", "--", "call", *_MANAGER, "StartTransientUnit", _SIGNATURE, *body)


def _await_entry(unit: ScopeUnit) -> None:
    """Wait until this process is where the unit's name says; systemd answers before it is."""
    wanted = "/" + "/".join(unit.names)
    deadline = time.monotonic() + _SECONDS
    while (own := _own_cgroup()) != wanted:
        if time.monotonic() > deadline:
            raise ConfigError(
                "cgroup.systemd", f"systemd has not moved this process from {own} to {wanted}"
            )
        time.sleep(_RETRY_SECONDS)


def _own_cgroup() -> str:
    lines = _OWN.read_text().splitlines()
    return next(line[len(_UNIFIED) :] for line in lines if line.startswith(_UNIFIED))
