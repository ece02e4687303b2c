"""One container as its supervisor gets it, with everything that others have fetched for it."""

from collections.abc import Callable
from typing import TypeAlias

from ccinit.formats.oci.image import ImageConfig
from ccinit.formats.pod.container import Container
from ccinit.run.shared_namespaces import SharedNamespaces
from ccinit.run.stdio import OutputSink
from ccinit.run.users import Identity
from ccinit.secret import Secret
from ccinit.values import field, frozen

EventSink: TypeAlias = Callable[[str], None]
"""Takes one line for the owner's log; must not raise or wait."""


@frozen
class BindMount:
    """A file or directory of the guest, seen by the container at `target`."""

    source: str
    target: str
    read_only: bool


@frozen
class SecretFile:
    """One secret of one container; `mode` has permission bits, `path` is inside the container.

    Attributes:
        rotates: it may be replaced later.
    """

    path: str
    mode: int
    content: Secret
    rotates: bool = False

    @property
    def place(self) -> tuple[str, str]:
        """Return its directory and its name there."""
        directory, _, name = self.path.rpartition("/")
        return directory, name


@frozen
class Workload:
    """One container, with everything that others have fetched for it.

    Attributes:
        lowers: mounted image layers, top first.
        scratch: a directory that does not exist yet, on a scratch volume.
        run_dir: a directory that does not exist yet, on a tmpfs.
        address: the pod's, to which its name resolves.
        cgroup_path: absolute within the cgroup tree.
        binds: volumes and the pod's /etc files.
        shared: namespaces that it shares with others.
    """

    container: Container
    image: ImageConfig
    lowers: tuple[str, ...]
    scratch: str
    run_dir: str
    hostname: str
    address: str
    cgroup_path: str
    binds: tuple[BindMount, ...] = ()
    secret_files: tuple[SecretFile, ...] = ()
    secret_env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    shared: SharedNamespaces = SharedNamespaces()


@frozen
class Prepared:
    """What is determined once for all starts of a container: its user, and its spec."""

    identity: Identity
    spec: dict[str, object]


@frozen
class Sinks:
    """Where output and the guest's own events go."""

    stdout: OutputSink
    stderr: OutputSink
    event: EventSink
