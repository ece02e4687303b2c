"""What a container is made of, from what the phases before START have given."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from ccinit.agent.phases import workloads
from ccinit.agent.phases.workloads import Workloads, write_pod_files
from ccinit.boot.network_offer import NetworkPlan
from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.pod.container import Container, ContainerKind, Mount
from ccinit.formats.pod.manifest import ConfigFile
from ccinit.formats.pod.places import POD_FILES
from ccinit.formats.pod.secret import FileSecret, PodSecret, VariableSecret
from ccinit.run.shared_namespaces import SharedNamespaces
from ccinit.run.workload import BindMount, Workload
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.documents.containers import CONTAINER

if TYPE_CHECKING:
    from ccinit.agent.phases.attestation import Attested
    from ccinit.agent.phases.configuration import Configured
    from ccinit.agent.phases.images import Pulled
    from ccinit.agent.phases.storage import Unlocked

NETWORK = NetworkPlan(
    mac="52:54:00:cc:00:01", address="192.0.2.9", prefix=24, gateway="192.0.2.1",
    gateway_on_link=False, mtu=1500, dns=(),
)  # fmt: skip
VOLUMES = {"data": "/run/ccinit/volumes/data/volume", "logs": "/run/ccinit/volumes/logs/volume"}
SHARED = SharedNamespaces(ipc="/run/ipc", shm="/run/shm", process="/run/process")


def make(
    container: Container,
    *,
    grants: object = None,
    secrets: tuple[PodSecret, ...] = (),
    files: tuple[ConfigFile, ...] = (),
) -> Workload:
    image = SimpleNamespace(config=None, layers=())
    manifest = SimpleNamespace(name="shop", secrets=secrets, files=files)
    made = Workloads(
        cast("Configured", SimpleNamespace(manifest=manifest)),
        cast("Attested", SimpleNamespace(grants=grants)),
        cast("Unlocked", SimpleNamespace(store="/store", volumes=VOLUMES)),
        cast("Pulled", SimpleNamespace(images={CONTAINER.image: image})),
        NETWORK,
        SHARED,
    )
    return made.make(container)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ContainerKind.MAIN, SHARED),
        (ContainerKind.INIT, SharedNamespaces(ipc="/run/ipc", shm="/run/shm")),
    ],
)
def test_init_containers_keep_their_processes_for_themselves(
    kind: ContainerKind, expected: SharedNamespaces
) -> None:
    made = make(replace(CONTAINER, kind=kind))
    assert made.shared == expected
    assert (made.hostname, made.address) == ("shop", "192.0.2.9")


def variable_of(content: bytes) -> tuple[tuple[str, str], ...]:
    uri = parse_resource_uri("kbs:///ccinit/shop/file-token")
    secret = VariableSecret(container=CONTAINER.name, uri=uri, name="TOKEN")
    grants = {uri: SimpleNamespace(secret=Secret(content))}
    return make(CONTAINER, grants=grants, secrets=(secret,)).secret_env


def test_container_gets_its_own_secrets_and_files_and_no_others() -> None:
    secrets: tuple[PodSecret, ...] = tuple(
        secret
        for container in (CONTAINER.name, "db")
        for secret in (
            FileSecret(
                container=container,
                uri=parse_resource_uri(f"kbs:///ccinit/shop/{container}-file"),
                path=f"/run/s/{container}",
                mode=0o440,
                rotate=True,
            ),
            VariableSecret(
                container=container,
                uri=parse_resource_uri(f"kbs:///ccinit/shop/{container}-env"),
                name=container.upper(),
            ),
        )
    )
    contents = {one.uri: Secret(one.uri.path.encode()) for one in secrets}
    made = make(
        CONTAINER,
        grants={uri: SimpleNamespace(secret=content) for uri, content in contents.items()},
        secrets=secrets,
        files=tuple(
            ConfigFile(
                container=container, path=f"/etc/{container}.conf", mode=0o444, text=container
            )
            for container in (CONTAINER.name, "db")
        ),
    )
    token, settings = made.secret_files
    assert (token.path, token.mode, token.rotates) == ("/run/s/web", 0o440, True)
    assert token.content is contents[secrets[0].uri]  # so what wipes the pod's keys wipes it, too
    assert (settings.path, settings.mode, settings.rotates) == ("/etc/web.conf", 0o444, False)
    assert settings.content.reveal() == b"web"
    assert made.secret_env == (("WEB", "ccinit/shop/web-env"),)


def test_container_sees_the_volumes_that_it_mounts_as_it_mounts_them() -> None:
    mounts = (
        Mount(volume="data", path="/srv", read_only=False),
        Mount(volume="data", path="/look", read_only=True),
    )
    binds = make(replace(CONTAINER, mounts=mounts)).binds
    assert [bind for bind in binds if bind.target not in POD_FILES] == [
        BindMount(source=VOLUMES["data"], target=one.path, read_only=one.read_only)
        for one in mounts
    ]


@pytest.mark.parametrize("content", [b"secret\xff", b"secret\0"])
def test_variable_of_bytes_that_are_no_text_is_refused_without_a_word_of_them(
    content: bytes,
) -> None:
    assert variable_of(b"abc") == (("TOKEN", "abc"),)
    with pytest.raises(FormatError) as refused:
        variable_of(content)
    assert refused.value.reason == "run.env"
    assert "kbs:///ccinit/shop/file-token" in refused.value.detail
    assert refused.value.__context__ is None


def test_variable_that_no_program_could_be_started_with_is_refused() -> None:
    """execve(2) takes 131 072 bytes of each: with the name, the `=` and the NUL at its end."""
    longest = 131_072 - len("TOKEN=\0")
    ((_name, value),) = variable_of(b"x" * longest)
    assert len(value) == longest
    with pytest.raises(LimitExceededError) as refused:
        variable_of(b"x" * (longest + 1))
    assert refused.value.reason == "run.env"


def test_pods_name_leads_to_its_own_address_and_localhost_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: dict[str, str] = {}
    made: dict[str, int] = {}
    monkeypatch.setattr(workloads, "make_directory", made.__setitem__)
    monkeypatch.setattr(workloads, "write_file", written.__setitem__)
    write_pod_files("shop", NETWORK.address)
    files = {bind.target: written.get(bind.source, "") for bind in make(CONTAINER).binds}
    assert files["/etc/hostname"] == "shop\n"
    assert files["/etc/hosts"] == "127.0.0.1 localhost\n::1 localhost\n192.0.2.9 shop\n"
    assert made == {str(Path(make(CONTAINER).run_dir).parent): 0o700}


def test_files_of_the_pod_are_where_no_manifest_may_put_anything() -> None:
    assert {bind.target for bind in make(CONTAINER).binds} == set(POD_FILES)


def test_no_container_changes_the_files_of_the_pod() -> None:
    assert all(bind.read_only for bind in make(CONTAINER).binds)
