"""`[[container]]` of `pod.toml`: what one container runs, with which rights and limits."""

from enum import StrEnum

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.oci.user import check_user
from ccinit.formats.pod.capability import Capability
from ccinit.formats.pod.name import check_path, check_variable, read_name
from ccinit.formats.pod.probe import LivenessProbe, Probe, read_liveness_probe, read_ready_probe
from ccinit.formats.pod.seccomp import Seccomp, read_seccomp
from ccinit.values import frozen

_TIB = 1 << 40


class ContainerKind(StrEnum):
    """`init` containers run one after another, each to success, before any `main` one starts."""

    INIT = "init"
    MAIN = "main"


class Restart(StrEnum):
    """What happens when a main container ends."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class RotateSignal(StrEnum):
    """What tells a container's program that its secret files have changed."""

    HUP = "HUP"
    USR1 = "USR1"
    USR2 = "USR2"
    TERM = "TERM"


@frozen
class Mount:
    """A volume's place in a container; `path` is absolute and normal."""

    volume: str
    path: str
    read_only: bool


@frozen
class Resources:
    """Limits of one container; 0 takes the default: the limits of the pod, and 4096 processes."""

    memory_bytes: int = 0
    pids: int = 0
    cpu_milli: int = 0


@frozen
class Container:
    """One container.

    Attributes:
        args: replaces entrypoint and command of the image if not empty.
        env: added to the image's environment, in this order; names and values.
        user: `uid[:gid]` or a name of the image; None takes the image's.
        cwd: None takes the image's.
        rotate_signal: sent to its first process when files of its secrets have changed.
        capabilities: the only ones it has, even as root.
        stop_grace_seconds: None takes `limits.stop_grace_seconds`.
        ready: containers that depend on it start after the first yes; None does not ask.
        alive: a no ends its program, as a failure; None does not ask.
        seccomp: differences from the profile of all containers.
    """

    name: str
    image: str
    kind: ContainerKind
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    user: str | None
    cwd: str | None
    read_only: bool
    restart: Restart
    depends_on: tuple[str, ...]
    resources: Resources
    mounts: tuple[Mount, ...]
    rotate_signal: RotateSignal | None = None
    capabilities: tuple[Capability, ...] = ()
    stop_grace_seconds: int | None = None
    ready: Probe | None = None
    alive: LivenessProbe | None = None
    seccomp: Seccomp = Seccomp()


def read_container(fields: Fields) -> Container:
    """Read one `[[container]]`.

    Raises:
        FormatError: `pod.container.…`.
    """
    cwd = fields.optional_text("cwd")
    if cwd and cwd != "/":  # nothing is mounted there, so it may be the root
        check_path(cwd, "pod.container.cwd")
    env = fields.text_table("env")
    for name, _ in env:
        check_variable(name, "pod.container.env")
    return Container(
        name=read_name(fields, "name", "pod.container"),
        image=read_name(fields, "image", "pod.container"),
        kind=fields.choice("kind", ContainerKind, default=ContainerKind.MAIN),
        args=_read_arguments(fields),
        env=env,
        user=_read_user(fields),
        cwd=cwd,
        read_only=fields.boolean("read_only", default=True),
        restart=fields.choice("restart", Restart, default=Restart.NEVER),
        depends_on=fields.texts("depends_on"),
        resources=fields.table("resources", _read_resources, default=Resources()),
        mounts=fields.tables("mount", _read_mount),
        rotate_signal=fields.choice("rotate_signal", RotateSignal)
        if fields.has("rotate_signal")
        else None,
        capabilities=fields.choices("capabilities", Capability),
        stop_grace_seconds=(
            fields.integer("stop_grace_seconds", low=0, high=3600)
            if fields.has("stop_grace_seconds")
            else None
        ),
        ready=fields.optional_table("ready", read_ready_probe),
        alive=fields.optional_table("alive", read_liveness_probe),
        seccomp=fields.table("seccomp", read_seccomp, default=Seccomp()),
    )


def _read_user(fields: Fields) -> str | None:
    user = fields.optional_text("user", max_bytes=64)
    if user is not None:
        check_user(user, "pod.container.user")
    return user


def _read_arguments(fields: Fields) -> tuple[str, ...]:
    arguments = fields.texts("args")
    if arguments and not arguments[0]:
        raise FormatError("pod.container.args", "the first, what runs, is empty")
    return arguments


def _read_resources(fields: Fields) -> Resources:
    return Resources(
        memory_bytes=fields.integer("memory_bytes", low=1 << 20, high=_TIB, default=0),
        pids=fields.integer("pids", low=1, high=1 << 22, default=0),
        cpu_milli=fields.integer("cpu_milli", low=10, high=1_024_000, default=0),
    )


def _read_mount(fields: Fields) -> Mount:
    path = fields.text("path")
    check_path(path, "pod.container.mount.path")
    return Mount(
        volume=read_name(fields, "volume", "pod.container.mount"),
        path=path,
        read_only=fields.boolean("read_only", default=False),
    )
