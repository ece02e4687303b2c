"""The tools tree as the root of a mount namespace, for programs that are PID 1 of a pod there.

They import little from here: what a guest's PID 1 has loaded is looked at in some of them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Never

from ccinit.kernel.libc import syscall
from ccinit.kernel.mount import MountFlag, detach, mount
from ccinit.run.spec import plan_spec
from ccinit.run.users import Identity
from ccinit.run.workload import BindMount, Workload
from tests.vm.guest.containers import PYTHON

NR_PIVOT_ROOT = 155
_PRIVATE = MountFlag(1 << 14 | 1 << 18)  # MS_REC, MS_PRIVATE
SITE = "/srv"
"""Where a process inside finds the packages of Python."""


def enter(tools: Path, binds: Mapping[str, Path]) -> None:
    """Make `tools` the root of this mount namespace, with what `binds` names at its places."""
    mount("none", "/", "", _PRIVATE)
    root = "/mnt"
    mount(str(tools), root, "", MountFlag.BIND)
    mount("proc", f"{root}/proc", "proc")
    mount("/sys", f"{root}/sys", "", MountFlag.BIND)
    mount("cgroup2", f"{root}/sys/fs/cgroup", "cgroup2")
    mount("/dev", f"{root}/dev", "", MountFlag.BIND)
    mount("tmpfs", f"{root}/mnt", "tmpfs")
    mount("tmpfs", f"{root}/run", "tmpfs")
    for place, source in binds.items():
        mount(str(source), f"{root}{place}", "", MountFlag.BIND)
    # not chroot: who enters a container's mount namespace finds the root of the namespace
    os.chdir(root)
    syscall(NR_PIVOT_ROOT, b".", b".", operation="pivot_root")
    detach(".")
    os.chdir("/opt")


def go_inside(module: str, tools: Path, repository: Path, site: Path, word: str) -> Never:
    """Become `module` with this one word under the Python of the tools tree."""
    enter(tools, {"/opt": repository, SITE: site})
    os.execve(
        PYTHON,
        [PYTHON, "-m", module, word],
        {"PYTHONPATH": f"/opt:{SITE}", "PYTHONDONTWRITEBYTECODE": "1"},
    )


def unlimited(
    workload: Workload, identity: Identity, root_path: str, **mounts: tuple[BindMount, ...]
) -> dict[str, object]:
    """Leave out limits."""
    spec = plan_spec(workload, identity, root_path, **mounts)
    linux, process = spec["linux"], spec["process"]
    assert isinstance(linux, dict)
    assert isinstance(process, dict)
    linux["resources"] = {"devices": linux["resources"]["devices"]}
    process["rlimits"] = []
    return spec
