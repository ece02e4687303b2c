"""The debug environment: programs of the tools volume, in the guest's own namespaces, as root.

It is a `crun` container like those of the pod, because that is how this guest starts programs with
streams and terminals. But it shares everything except the root file system with PID 1: processes,
network, devices, PID 1's capabilities. The guest's own root is visible below /proc/1/root.
`ccinit.agent.phases.debug` decides beforehand whether the environment may exist.
"""

import os
from typing import Final

from ccinit.errors import ChildError
from ccinit.kernel.cgroup import ROOT as CGROUP_ROOT
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.event_loop import sleep
from ccinit.kernel.libc import open_path
from ccinit.kernel.process import Process
from ccinit.run.crun import Crun
from ccinit.run.spec import DEFAULT_PATH, OCI_VERSION, plan_exec

NAME: Final = "debug.tools"  # no container's name can have a dot
CGROUP_PATH: Final = "/debug"
_HOLDER: Final = ("/bin/sh", "-c", "while sleep 3600; do :; done")  # keeps the container there
_GONE_SECONDS: Final = 5.0
_STEP_SECONDS: Final = 0.05

_CAPABILITIES: Final = (  # by bit, capability.h
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
_MOUNTS: Final = (
    ("/proc", "proc", "proc", "nosuid noexec nodev"),
    ("/dev", "tmpfs", "tmpfs", "nosuid noexec mode=755 size=1m"),
    ("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620"),
    ("/sys", "sysfs", "sysfs", "nosuid noexec nodev"),
    ("/tmp", "tmpfs", "tmpfs", "nosuid nodev mode=1777 size=64m"),  # noqa: S108
    ("/run", "tmpfs", "tmpfs", "nosuid nodev mode=755 size=16m"),
)
_KERNEL_LOG: Final = {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o600}


def plan_debug_spec(
    root_path: str, cgroup_path: str, capabilities: tuple[str, ...]
) -> dict[str, object]:
    """Return the environment's `config.json` as a value; `root_path` is the mounted volume."""
    return {
        "ociVersion": OCI_VERSION,
        "root": {"path": root_path, "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0, "umask": 0o022},
            "args": list(_HOLDER),
            "env": [f"PATH={DEFAULT_PATH}", "HOME=/tmp"],
            "cwd": "/",
            "capabilities": {
                name: list(capabilities)
                for name in ("bounding", "effective", "inheritable", "permitted")
            },
            "noNewPrivileges": False,
            "oomScoreAdj": 0,  # PID 1's own -1000 would be inherited
        },
        "mounts": [
            {"destination": target, "type": kind, "source": source, "options": options.split()}
            for target, kind, source, options in _MOUNTS
        ],
        "linux": {
            "namespaces": [{"type": "mount"}],
            "cgroupsPath": cgroup_path,
            "resources": {"devices": [{"allow": True, "access": "rwm"}]},
            "devices": [_KERNEL_LOG],
            "rootfsPropagation": "private",
        },
    }


def read_own_capabilities() -> tuple[str, ...]:
    """Return the names of this process's effective capabilities (proc(5), capabilities(7))."""
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith("CapEff:"))
    bits = int(line.split()[1], 16)
    names = enumerate(_CAPABILITIES.split())
    return tuple(f"CAP_{name}" for bit, name in names if bits >> bit & 1)


class DebugEnvironment:
    """Runs programs of the tools volume; made by `open_environment`."""

    def __init__(
        self, crun: Crun, spec: dict[str, object], cgroup: Cgroup, holder: Process
    ) -> None:
        self._crun = crun
        self._spec = spec
        self._cgroup = cgroup
        self._holder = holder

    async def exec(
        self, arguments: tuple[str, ...], *, stdin: int, stdout: int, stderr: int
    ) -> Process:
        """Start a program; as `ccinit.run.supervisor.Supervisor.exec`.

        Raises:
            ChildError: `crun.exec`, it could not be started.
        """
        process = plan_exec(self._spec, arguments)
        return await self._crun.exec(NAME, process, stdin=stdin, stdout=stdout, stderr=stderr)

    async def exec_on_terminal(
        self, arguments: tuple[str, ...], *, rows: int, columns: int
    ) -> tuple[Process, int]:
        """Start a program on a terminal; as `Supervisor.exec_on_terminal`."""
        process = plan_exec(self._spec, arguments, terminal=(rows, columns))
        return await self._crun.exec_on_terminal(NAME, process)

    async def close(self) -> None:
        """Kill every program of the environment, and wait until all are gone.

        Raises:
            ChildError: `run.debug`, one does not end.
            KernelError: the kernel refused.
        """
        self._cgroup.kill()
        await self._holder.wait()
        for _ in range(int(_GONE_SECONDS / _STEP_SECONDS)):
            if not self._cgroup.is_populated():
                break
            await sleep(_STEP_SECONDS)
        else:
            raise ChildError("run.debug", "a program of the debug environment does not end")
        await self._crun.delete(NAME)


async def open_environment(
    crun: Crun, root_path: str, cgroup_path: str = CGROUP_PATH
) -> DebugEnvironment:
    """Start the environment on the volume that is mounted at `root_path`.

    Args:
        crun: has a state directory of its own.
        root_path: a mount point.
        cgroup_path: absolute within the cgroup tree.

    Raises:
        ChildError: `crun.create`, `crun.start`; nothing is left behind.
        KernelError: the kernel refused.
    """
    spec = plan_debug_spec(root_path, cgroup_path, read_own_capabilities())
    with Descriptor(open_path(os.devnull, os.O_RDWR)) as null:  # the holder needs no streams
        holder = await crun.create(NAME, spec, stdout=null, stderr=null)
    try:
        await crun.start(NAME)
    except BaseException:
        holder.kill()
        await holder.wait()
        await crun.clear(NAME)
        raise
    return DebugEnvironment(crun, spec, Cgroup(CGROUP_ROOT + cgroup_path), holder)
