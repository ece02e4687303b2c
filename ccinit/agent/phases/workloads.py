"""What each container of the pod is made of, from the results of the phases before START."""

from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.images import Pulled
from ccinit.agent.phases.network import RESOLVER_FILE
from ccinit.agent.phases.storage import Unlocked
from ccinit.boot.directories import make_directory, write_file
from ccinit.boot.network_offer import NetworkPlan
from ccinit.formats.pod.container import Container, ContainerKind
from ccinit.formats.pod.secret import FileSecret, PodSecret, VariableSecret, decode_variable
from ccinit.run.shared_namespaces import SharedNamespaces
from ccinit.run.workload import BindMount, SecretFile, Workload
from ccinit.secret import Secret
from ccinit.values import replace

_RUN = "/run/ccinit/pod"  # a directory for each container by its name
_HOSTS_FILE = "/run/ccinit/hosts"
_HOSTNAME_FILE = "/run/ccinit/hostname"


def write_pod_files(name: str, address: str) -> None:
    """Write the files that every container has in /etc, with the pod's name and address."""
    make_directory(_RUN, 0o700)
    write_file(_HOSTNAME_FILE, f"{name}\n")
    write_file(_HOSTS_FILE, f"127.0.0.1 localhost\n::1 localhost\n{address} {name}\n")


class Workloads:
    """Makes what a supervisor needs to know of its container.

    Args:
        shared: the namespaces that containers have in common.
    """

    def __init__(
        self,
        configured: Configured,
        attested: Attested,
        unlocked: Unlocked,
        pulled: Pulled,
        network: NetworkPlan,
        shared: SharedNamespaces,
    ) -> None:
        self._manifest = configured.manifest
        self._attested = attested
        self._unlocked = unlocked
        self._pulled = pulled
        self._network = network
        self._shared = shared

    def make(self, container: Container) -> Workload:
        """Return one container's.

        Raises:
            FormatError: as `decode_variable`.
        """
        image = self._pulled.images[container.image]
        return Workload(
            container=container,
            image=image.config,
            lowers=tuple(layer.mount_point for layer in reversed(image.layers)),
            scratch=f"{self._unlocked.store}/container-{container.name}",
            run_dir=f"{_RUN}/{container.name}",
            hostname=self._manifest.name,
            address=self._network.address,
            cgroup_path=f"/pod/{container.name}",
            binds=(*_pod_files(), *self._volume_binds(container)),
            shared=self._namespaces(container),
            secret_files=(*self._secret_files(container), *self._given_files(container)),
            secret_env=self._secret_variables(container),
        )

    def _namespaces(self, container: Container) -> SharedNamespaces:
        if container.kind is ContainerKind.INIT:
            # Its processes end before those of others begin.
            return replace(self._shared, process="")
        return self._shared

    def _volume_binds(self, container: Container) -> tuple[BindMount, ...]:
        return tuple(
            BindMount(
                source=self._unlocked.volumes[mount.volume],
                target=mount.path,
                read_only=mount.read_only,
            )
            for mount in container.mounts
        )

    def _secret_files(self, container: Container) -> tuple[SecretFile, ...]:
        return tuple(
            SecretFile(path=one.path, mode=one.mode, content=self._content(one), rotates=one.rotate)
            for one in self._secrets(container)
            if isinstance(one, FileSecret)
        )

    def _given_files(self, container: Container) -> tuple[SecretFile, ...]:
        """Return the manifest's `[[file]]`s: no secrets, but they are mounted in the same way."""
        return tuple(
            SecretFile(path=one.path, mode=one.mode, content=Secret(one.text.encode()))
            for one in self._manifest.files
            if one.container == container.name
        )

    def _secret_variables(self, container: Container) -> tuple[tuple[str, str], ...]:
        return tuple(
            (one.name, decode_variable(one, self._content(one).reveal()))
            for one in self._secrets(container)
            if isinstance(one, VariableSecret)
        )

    def _secrets(self, container: Container) -> tuple[PodSecret, ...]:
        return tuple(one for one in self._manifest.secrets if one.container == container.name)

    def _content(self, secret: PodSecret) -> Secret:
        return self._attested.grants[secret.uri].secret


def _pod_files() -> tuple[BindMount, ...]:
    return tuple(
        BindMount(source=source, target=target, read_only=True)
        for source, target in (
            (RESOLVER_FILE, "/etc/resolv.conf"),
            (_HOSTS_FILE, "/etc/hosts"),
            (_HOSTNAME_FILE, "/etc/hostname"),
        )
    )
