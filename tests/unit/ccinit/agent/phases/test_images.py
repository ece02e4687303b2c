"""PULL's own part: several images at once, what they leave mounted, and what they leave behind."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases.attestation import Attested, plan_resources
from ccinit.agent.phases.images import prepare_first, pull
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.platform.measurement import image_pulled
from ccinit.agent.processes.secret_pipes import MAX_PIPED_BYTES
from ccinit.errors import CcinitError, PeerError
from ccinit.formats.encoding import wire
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.registries import Access, Location, RegistryRule
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from ccinit.formats.pod.resources import MAX_PULL_SECRET_BYTES
from ccinit.formats.pod.volume import (
    Luks2Volume,
    PersistentVolume,
    ScratchProfile,
    ScratchVolume,
    Volume,
)
from ccinit.kernel.event_loop import EventLoop, TaskGroup, sleep
from ccinit.pull.messages.fetch import AUTH_PIPE
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.documents.guest import FULL_POD
from tests.unit.ccinit.agent.phases.pod_images import AUTH, KEYS, TARS, Pod, Reception
from tests.unit.ccinit.pull.image_children import POLICY, Mounts

CLIENT_KEY = ResourceUri("ccinit", "demo", "file-client-key")
RULE = RegistryRule(
    prefix="registry.example:5000",
    location=Location(
        text="registry.example:5000",
        access=Access(ca_pem="", certificate_pem="", key=CLIENT_KEY, proxy=""),
    ),
    blocked=False,
    mirrors=(),
)
PLAIN = Location(
    text="mirror.example", access=Access(ca_pem="", certificate_pem="", key=None, proxy="")
)
SHARED = """[[secret]]
container = "main"
uri = "kbs:///ccinit/demo/file-auth"
file = "/run/secrets/auth.json"
"""
SCRATCH = ScratchVolume(name="scratch", size_bytes=1 << 30, profile=ScratchProfile.AEAD_RAM)
OWN = PersistentVolume(name="data", size_bytes=1 << 30, key=AUTH)
LUKS2 = Luks2Volume(name="data", size_bytes=1 << 30, key=AUTH, is_sealed=False)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> Mounts:
    mounts = Mounts()
    monkeypatch.setattr("ccinit.pull.image.mount", mounts.mount)
    monkeypatch.setattr("ccinit.pull.image.detach", mounts.detach)
    return mounts


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    pod = Pod(tmp_path)
    monkeypatch.setattr("ccinit.agent.phases.images.ImageChildren", pod.children)
    monkeypatch.setattr("ccinit.agent.phases.images.prepare_reception", pod.reception)
    return pod


def test_registry_has_less_time_than_the_phase(pod: Pod, mounts: Mounts) -> None:
    """So that the log says whom the guest has waited for."""
    pod.pull()
    assert {request.limits.total_seconds for request in pod.requests.values()} == {54}
    pod.tear_down()
    pod.phase_time.begin(40)
    pod.store /= "again"
    pod.store.mkdir()
    pod.pull()
    assert all(30 < request.limits.total_seconds <= 36 for request in pod.requests.values())
    pod.tear_down()
    assert mounts.mounted == []


def test_images_are_mounted_until_the_guest_ends(pod: Pod, mounts: Mounts) -> None:
    pulled = pod.pull()
    assert pulled.images.keys() == TARS.keys()
    points = [layer.mount_point for image in pulled.images.values() for layer in image.layers]
    assert sorted(mounts.mounted) == sorted(points)
    assert len(points) == 4
    assert pod.tear_down() == ()
    assert mounts.mounted == []


@pytest.mark.usefixtures("mounts")
def test_image_with_a_policy_is_judged_by_the_released_one_and_its_keys(pod: Pod) -> None:
    pod.policy = ResourceUri("ccinit", "demo", "image-policy")
    pod.pull()
    assert {name: one.with_signatures for name, one in pod.requests.items()} == {
        "web": True,
        "other": False,
    }
    assert pod.judged == {"web": replace(POLICY, keys=KEYS)}


@pytest.mark.usefixtures("mounts")
def test_pull_is_measured_and_told_to_the_owner(pod: Pod) -> None:
    pulled = pod.pull().images
    assert set(pod.noted) == {
        image_pulled(f"r.example/a@{pod.images[name].digest}", image.manifest)
        for name, image in pulled.items()
    }
    assert len(pod.noted) == 2
    assert pod.image_bytes == {name: image.file_bytes for name, image in pulled.items()}
    assert {event.partition(",")[0] for event in pod.events} == {
        f"image {name}: manifest {image.manifest}" for name, image in pulled.items()
    }


@pytest.mark.usefixtures("mounts")
def test_images_in_memory_are_compressed_and_come_one_at_a_time(pod: Pod) -> None:
    pod.pull()
    assert (pod.forms, max(pod.at_once)) == ({LayerForm.INDEX}, 2)
    pod.tear_down()
    pod.in_memory, pod.forms, pod.at_once = True, set(), []
    pod.store /= "again"
    pod.store.mkdir()
    pod.pull()
    assert (pod.forms, max(pod.at_once)) == ({LayerForm.COMPRESSED}, 1)
    assert pod.events[-1].startswith("images take ")


@pytest.mark.usefixtures("mounts")
def test_keys_of_one_image_after_another_are_asked_for(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each handshake has the one TPM to itself."""
    diary: list[str] = []

    async def open_layer_keys(*given: Any) -> tuple[()]:
        name = given[3].name
        diary.append(f"{name} begins")
        await sleep(0.01)
        diary.append(f"{name} ends")
        return ()

    monkeypatch.setattr("ccinit.agent.phases.images.open_layer_keys", open_layer_keys)
    pod.pull()

    async def ask_at_once() -> None:
        async with TaskGroup() as group:
            for open_keys in pod.open_keys:
                group.start(open_keys(None), "open keys")

    EventLoop().run(ask_at_once())
    assert [word.partition(" ")[2] for word in diary] == ["begins", "ends"] * 2
    assert {word.partition(" ")[0] for word in diary} == set(TARS)


@pytest.mark.usefixtures("mounts")
def test_registry_child_is_told_the_rule_of_its_image(pod: Pod) -> None:
    rule = replace(RULE, prefix="r.example", location=PLAIN)
    pod.registries = (replace(rule, prefix="r.example/other"), rule)
    pod.pull()
    assert [one.registry for one in pod.requests.values()] == [rule, rule]


def test_image_that_fails_while_another_ones_children_end_leaves_no_mount(
    pod: Pod, mounts: Mounts
) -> None:
    pod.failure = PeerError("registry.not_found", "no such thing")
    with pytest.raises(PeerError) as refused:
        pod.pull()
    assert refused.value is pod.failure
    assert [event for event in pod.events if "registry" in event] == [
        "image other: registry.not_found: no such thing"
    ]
    assert len(mounts.calls) == 2  # those of the image that was whole
    assert pod.tear_down() == ()
    assert mounts.mounted == []


def left_by_pull(manifest: PodManifest, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names of resources that are still there when every image is."""

    async def pull_one(*_arguments: object) -> str:
        assert all(len(grant.secret) for grant in grants.values())
        return "an image"

    monkeypatch.setattr("ccinit.agent.phases.images._Puller.pull_one", pull_one)
    uris = [one.uri for one in plan_resources(manifest, OwnerConfig(port=0, client_ca_pem=""))]
    grants = {uri: Grant(secret=Secret(b"secret"), create=False) for uri in uris}
    configured: Any = SimpleNamespace(manifest=manifest)
    guest: Any = SimpleNamespace()
    unlocked = Unlocked(volumes={}, store="/store")
    EventLoop().run(pull(guest, configured, Attested(grants=grants), unlocked))
    return {str(uri).rpartition("/")[2] for uri, grant in grants.items() if len(grant.secret)}


def test_what_registries_and_layers_were_opened_with_is_wiped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest = replace(parse_pod_manifest(FULL_POD), registries=(RULE,))
    others = {"log-psk", "tls-identity", "volume-key-data", "file-token"}
    assert left_by_pull(manifest, monkeypatch) == others


def test_what_a_container_gets_too_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"log-psk", "tls-identity", "volume-key-data", "file-token"}
    shared = parse_pod_manifest(FULL_POD.replace("[[secret]]\n", SHARED + "[[secret]]\n", 1))
    assert left_by_pull(shared, monkeypatch) == others | {"file-auth"}


@pytest.mark.usefixtures("mounts")
def test_credentials_reach_the_registry_child_by_pipe_alone(pod: Pod) -> None:
    pod.auth = Secret(b"password")
    pod.pull()
    assert pod.requests.keys() == TARS.keys()
    for name, request in pod.requests.items():
        assert request.has_auth
        assert b"password" not in wire.encode(request)
        assert pod.received[name].secrets == {AUTH_PIPE: pod.auth}
        assert (name, AUTH_PIPE) in pod.started


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("size", "reason"), [(MAX_PIPED_BYTES, ""), (MAX_PULL_SECRET_BYTES + 1, "pull.secret")]
)
def test_credentials_that_no_pipe_holds_are_refused(pod: Pod, size: int, reason: str) -> None:
    pod.auth = Secret(bytes(size))
    if not reason:
        assert pod.pull().images.keys() == TARS.keys()
        return
    with pytest.raises(CcinitError) as refused:
        pod.pull()
    assert refused.value.reason == reason
    assert pod.requests == {}


@pytest.mark.usefixtures("mounts")
def test_children_that_wait_receive_the_first_image(pod: Pod) -> None:
    waiting = Reception()
    pod.auth = Secret(b"password")
    pod.pull(waiting)
    assert pod.received["web"] is waiting
    assert waiting.secrets == {AUTH_PIPE: pod.auth}
    assert pod.started == [("other", AUTH_PIPE)]


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        ((SCRATCH,), [("web", AUTH_PIPE)]),
        ((SCRATCH, OWN), [("web", AUTH_PIPE)]),
        ((), []),
        ((SCRATCH, LUKS2), []),
    ],
    ids=["on a disk", "beside a volume", "in memory", "beside a key derivation"],
)
def test_children_are_started_ahead_where_nobody_misses_their_memory(
    pod: Pod, volumes: tuple[Volume, ...], expected: list[tuple[str, ...]]
) -> None:
    pod.auth = Secret(b"not known by then")
    guest, configured, _attested = pod.world(*volumes)

    async def start() -> bool:
        async with prepare_first(guest, configured) as children:
            return children is not None

    assert EventLoop().run(start()) == bool(expected)
    assert pod.started == expected
