"""The runtime spec of one container: a pure function of image, manifest and resolved identity.

Scope: `config.json` of the OCI runtime spec 1.0.2 (config.md, config-linux.md) as far as this guest
uses it, and which parts of an image's config count: environment and working directory do (R70),
labels and annotations do not. Left to others: the root file system (`ccinit.run.rootfs`), the
image's volumes (`ccinit.run.image_volumes`), identity (`ccinit.run.users`), what `crun` makes of
it.

Every container has the same shape: its own pid, mount, ipc, uts and cgroup namespaces (except for
pid and ipc if the pod shares them), the guest's network, only the capabilities that the manifest
gives and no way to gain others, fresh /dev, /proc and /sys, and limits.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Final

from ccinit.errors import ConfigError, FormatError, LimitExceededError
from ccinit.formats.oci.image import ImageConfig
from ccinit.formats.pod.container import Container, Resources
from ccinit.formats.pod.name import check_path, check_variable
from ccinit.formats.pod.places import is_kernels
from ccinit.run.seccomp_profile import workload_seccomp
from ccinit.run.shared_namespaces import SharedNamespaces
from ccinit.run.users import Identity
from ccinit.run.workload import BindMount, Workload

OCI_VERSION: Final = "1.0.2"
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_ARGUMENT_BYTES: Final = 128 << 10  # MAX_ARG_STRLEN of execve(2)
MAX_ARGUMENTS: Final = 1024
MAX_VARIABLES: Final = 1024
MAX_ENVIRONMENT_BYTES: Final = 1 << 20
CPU_PERIOD_US: Final = 100_000
DEFAULT_PIDS: Final = 4096  # processes and threads, where the manifest does not say
_SOFT_FILES: Final = 1024  # beyond it select(2) breaks
_MAX_FILES: Final = 524_288  # servers raise their soft limit
_PAGE: Final = 4096
_MAX_PIDS: Final = 1 << 22  # the kernel's maximum
_MAX_LONG: Final = (1 << 63) - 1
TERMINAL_KIND: Final = "TERM=xterm"  # as engines set it; without it editors and pagers do not run
MAX_TERMINALS: Final = 256  # of a container; each takes some 40 KiB of unaccounted kernel memory

MASKED_PATHS: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/dynamic_debug",  # uid 0 could make the kernel log faster than it is read
    "/proc/fs",  # the pod's disks, those of other containers too
    "/proc/interrupts",  # other tenants of the CPU: timing of the guest's own keys
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecgroup",  # these three show which page belongs to whom, to any uid 0
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/softirqs",  # like interrupts; programs need /proc/stat, which has sums of both
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",  # power readings reveal what other code computes
    "/sys/firmware",  # tables written by the host
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/irq",  # interrupts once more, by processor
)
READONLY_PATHS: Final = (
    "/proc/bus",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
SHM: Final = "/dev/shm"  # noqa: S108
_SHARED_SHM_OPTIONS: Final = "bind private nosuid noexec nodev rw"

# A file there may have 8 KiB of unaccounted ACLs, too: allow one file per 16 KiB of /dev/shm.
_DEV_OPTIONS: Final = "nosuid noexec strictatime mode=755 size=64k nr_inodes=1024"
_SHM_OPTIONS: Final = "nosuid noexec nodev mode=1777 size=64m nr_inodes=4096"
_DEVPTS_OPTIONS: Final = "nosuid noexec newinstance ptmxmode=0666 mode=0620"
_KERNEL_MOUNTS: Final = (
    ("/proc", "proc", "proc", "nosuid noexec nodev"),
    ("/dev", "tmpfs", "tmpfs", _DEV_OPTIONS),
    ("/dev/pts", "devpts", "devpts", f"{_DEVPTS_OPTIONS} max={MAX_TERMINALS}"),
    (SHM, "tmpfs", "shm", _SHM_OPTIONS),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev ro"),
)


def plan_spec(
    workload: Workload,
    identity: Identity,
    root_path: str,
    *,
    image_volumes: tuple[BindMount, ...],
    binds: tuple[BindMount, ...],
) -> dict[str, object]:
    """Return `config.json` as a value.

    Args:
        workload: the container.
        identity: the user to run as.
        root_path: mounted root file system.
        image_volumes: directories of the root that the image declares; `binds` go over them.
        binds: volumes, secrets and the pod's files, with sources that can be handed to `crun`.

    Raises:
        ConfigError: `run.args`.
        FormatError: `run.env`, `run.cwd`, `run.mount`.
        LimitExceededError: `run.env`, `run.args`, `run.mount`.
    """
    return {
        "ociVersion": OCI_VERSION,
        "root": {"path": root_path, "readonly": workload.container.read_only},
        "hostname": workload.hostname,
        "process": _process(workload, identity),
        # In this order: a mount hides earlier ones below it.
        "mounts": [
            *_kernel_mounts(workload.shared),
            *_bind_mounts(image_volumes),
            *_bind_mounts(binds),
        ],
        "linux": {
            "namespaces": _namespaces(workload.shared),
            "cgroupsPath": workload.cgroup_path,
            "resources": _resources(workload.container.resources),
            "seccomp": workload_seccomp(workload.container.seccomp),
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
            "rootfsPropagation": "private",
        },
    }


def plan_arguments(container: Container, image: ImageConfig) -> tuple[str, ...]:
    """Return the command: the manifest's, or else the image's entrypoint and command.

    Raises:
        ConfigError: `run.args`, neither names a command.
        FormatError: `run.args`, an argument with NUL.
        LimitExceededError: `run.args`.
    """
    arguments = container.args or image.entrypoint + image.cmd
    if not arguments or not arguments[0]:
        raise ConfigError("run.args", f"nothing says what {container.name} runs")
    if any("\0" in argument for argument in arguments):
        raise FormatError("run.args", "an argument holds NUL")
    too_long = any(len(argument.encode()) >= MAX_ARGUMENT_BYTES for argument in arguments)
    if too_long or len(arguments) > MAX_ARGUMENTS:
        raise LimitExceededError("run.args", "more than a process takes")
    return arguments


def plan_exec(
    spec: dict[str, object], arguments: tuple[str, ...], terminal: tuple[int, int] | None = None
) -> dict[str, object]:
    """Return the `process` of another program in the container that `spec` describes.

    It has the same user, environment, limits and rights; only the command differs. It may have a
    `terminal` of the given rows and columns; TERM is then set unless the container sets it.

    Raises:
        ConfigError: `run.args`.
    """
    process = spec["process"]
    if not isinstance(process, dict) or not arguments or not arguments[0]:
        raise ConfigError("run.args", "nothing says what to run")
    process = process | {"args": list(arguments)}
    if terminal is not None:
        rows, columns = terminal
        process |= {"terminal": True, "consoleSize": {"height": rows, "width": columns}}
        if not any(text.startswith("TERM=") for text in process["env"]):
            process["env"] = [*process["env"], TERMINAL_KIND]
    return process


def plan_environment(workload: Workload, identity: Identity) -> tuple[str, ...]:
    """Return `NAME=value` texts: image, then defaults, manifest, secrets.

    The defaults are those of every engine: PATH, HOME and HOSTNAME. A later value replaces an
    earlier one of the same name, in its position. None of this ever reaches a program of the guest,
    so LD_PRELOAD and the like affect only the container.

    Raises:
        FormatError: `run.env`: no `=`, an empty name, or control characters where none belong.
        LimitExceededError: `run.env`.
    """
    variables: dict[str, str] = {}
    for text in workload.image.env:
        name, equals, value = text.partition("=")
        if not equals:
            raise FormatError("run.env", f"{name[:80]!r} has no value")
        _set_variable(variables, name, value)
    variables.setdefault("PATH", DEFAULT_PATH)
    variables.setdefault("HOME", identity.home or "/")
    variables.setdefault("HOSTNAME", workload.hostname)
    for name, value in (*workload.container.env, *workload.secret_env):
        _set_variable(variables, name, value)
    environment = tuple(f"{name}={value}" for name, value in variables.items())
    size = sum(len(text.encode()) + 1 for text in environment)
    if len(environment) > MAX_VARIABLES or size > MAX_ENVIRONMENT_BYTES:
        raise LimitExceededError(
            "run.env",
            f"expected at most {MAX_VARIABLES} variables and {MAX_ENVIRONMENT_BYTES} bytes,"
            f" found {len(environment)} and {size}",
        )
    return environment


def _set_variable(variables: dict[str, str], name: str, value: str) -> None:
    check_variable(name, "run.env")
    if "\0" in value:
        raise FormatError("run.env", f"the value of {name[:80]!r} has a zero byte")
    variables[name] = value


def plan_cwd(container: Container, image: ImageConfig) -> str:
    """Return the working directory; symbolic links in it are resolved in the container's root.

    Raises:
        FormatError: `run.cwd`: not absolute, or with `..`.
    """
    cwd = container.cwd or image.working_dir or "/"
    if not cwd.startswith("/") or ".." in cwd.split("/") or "\0" in cwd:
        raise FormatError("run.cwd", f"{cwd[:80]!r} is not an absolute path")
    return "/" + os.path.normpath(cwd).lstrip("/")


def _process(workload: Workload, identity: Identity) -> dict[str, object]:
    return {
        "terminal": False,
        "user": {
            "uid": identity.uid,
            "gid": identity.gid,
            "additionalGids": list(identity.additional_gids),
            "umask": 0o022,
        },
        "args": list(plan_arguments(workload.container, workload.image)),
        "env": list(plan_environment(workload, identity)),
        "cwd": plan_cwd(workload.container, workload.image),
        "capabilities": _capabilities(workload.container),
        "noNewPrivileges": True,
        "oomScoreAdj": 0,  # PID 1's own -1000 would be inherited
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": _SOFT_FILES, "hard": _MAX_FILES},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            # The kernel counts these per user over all containers. A container's processes are
            # limited by `pids`, and the rest by its memory.
            {"type": "RLIMIT_NPROC", "soft": _MAX_PIDS, "hard": _MAX_PIDS},
            {"type": "RLIMIT_SIGPENDING", "soft": _MAX_LONG, "hard": _MAX_LONG},
            {"type": "RLIMIT_MSGQUEUE", "soft": _MAX_LONG, "hard": _MAX_LONG},
        ],
    }


def _capabilities(container: Container) -> dict[str, object]:
    """Return the same few in every set: ambient ones also reach programs of non-root users."""
    names = [f"CAP_{capability}" for capability in container.capabilities]
    sets = ("bounding", "effective", "inheritable", "permitted", "ambient")
    return dict.fromkeys(sets, names)


def _namespaces(shared: SharedNamespaces) -> list[dict[str, str]]:
    """List no network namespace: the pod shares the guest's, where PID 1 has bound its ports."""
    paths = {"pid": shared.process, "mount": "", "ipc": shared.ipc, "uts": "", "cgroup": ""}
    return [
        {"type": name, "path": path} if path else {"type": name} for name, path in paths.items()
    ]


def _kernel_mounts(shared: SharedNamespaces) -> Iterator[dict[str, object]]:
    for target, kind, source, options in _KERNEL_MOUNTS:
        if shared.shm and target == SHM:
            kind, source, options = "bind", shared.shm, _SHARED_SHM_OPTIONS  # noqa: PLW2901
        yield {"destination": target, "type": kind, "source": source, "options": options.split()}


def _bind_mounts(binds: Iterable[BindMount]) -> Iterator[dict[str, object]]:
    """Yield them parents first, each with a target of its own."""
    before = ""
    for bind in sorted(binds, key=lambda bind: bind.target.split("/")):
        check_path(bind.target, "run.mount")
        if is_kernels(bind.target):
            raise FormatError("run.mount", f"{bind.target[:80]!r} is the kernel's")
        if bind.target == before:
            raise FormatError("run.mount", f"two things at {bind.target}")
        before = bind.target
        access = "ro" if bind.read_only else "rw"
        yield {
            "destination": bind.target,
            "type": "bind",
            "source": bind.source,
            "options": ["bind", "private", "nosuid", "nodev", access],
        }


def _resources(wanted: Resources) -> dict[str, object]:
    resources: dict[str, object] = {
        # crun adds the harmless devices of its own /dev to what is allowed
        "devices": [{"allow": False, "access": "rwm"}],
        "pids": {"limit": wanted.pids or DEFAULT_PIDS},
        # Kill the whole container, whether its own limit or the pod's was reached: the restart
        # policy cannot repair one that has lost only some of its processes.
        "unified": {"memory.oom.group": "1"},
    }
    if wanted.memory_bytes:  # else the pod's own limit
        limit = wanted.memory_bytes // _PAGE * _PAGE
        resources["memory"] = {"limit": limit, "swap": limit}
    if wanted.cpu_milli:
        quota = wanted.cpu_milli * CPU_PERIOD_US // 1000
        resources["cpu"] = {"quota": quota, "period": CPU_PERIOD_US}
    return resources
