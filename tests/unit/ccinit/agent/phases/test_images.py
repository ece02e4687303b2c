"""PULL's own part: several images at once, what they leave mounted, and what they leave behind."""

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from ccinit.agent.guest import PhaseTime, Teardown
from ccinit.agent.phases.attestation import Attested, Grant, plan_resources
from ccinit.agent.phases.images import Pulled, prepare_first, pull
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.processes.secret_pipes import MAX_PIPED_BYTES
from ccinit.errors import CcinitError, PeerError
from ccinit.formats.encoding import wire
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.formats.oci.registries import Access, Location, RegistryRule
from ccinit.formats.pod.manifest import Image, PodManifest, parse_pod_manifest
from ccinit.formats.pod.volume import (
    Luks2Volume,
    PersistentVolume,
    ScratchProfile,
    ScratchVolume,
    Volume,
)
from ccinit.kernel.event_loop import Event, EventLoop, sleep
from ccinit.pull.messages.fetch import AUTH_PIPE, PulledBlobs, PullRequest
from ccinit.pull.reception import Begin
from ccinit.pull.verdict import Decide
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.documents.guest import FULL_POD
from tests.fakes.images.registry import make_image
from tests.fakes.images.tars import Entry, make_tar
from tests.unit.ccinit.pull.image_children import REQUEST, Children, Mounts

TARS: Mapping[str, list[bytes]] = {
    name: [make_tar(Entry(f"{name}-{number}", b"x")) for number in range(2)]
    for name in ("web", "other")
}
ENDING_SECONDS = 0.05
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
SHARED = """[[secret]]
container = "main"
uri = "kbs:///ccinit/demo/file-auth"
file = "/run/secrets/auth.json"
"""
AUTH = ResourceUri("ccinit", "shop", "file-auth")
SCRATCH = ScratchVolume(name="scratch", size_bytes=1 << 30, profile=ScratchProfile.AEAD_RAM)
OWN = PersistentVolume(name="data", size_bytes=1 << 30, key=AUTH)
LUKS2 = Luks2Volume(name="data", size_bytes=1 << 30, key=AUTH, is_sealed=False)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> Mounts:
    mounts = Mounts()
    monkeypatch.setattr("ccinit.pull.image.mount", mounts.mount)
    monkeypatch.setattr("ccinit.pull.image.umount2", mounts.umount2)
    return mounts


class Reception:
    """Notes what the registry's child is given."""

    def __init__(self) -> None:
        self.secrets: Mapping[str, Secret] = {}

    def give(self, secrets: Mapping[str, Secret]) -> None:
        self.secrets = secrets


class Pod:
    """A manifest with two images, whose children are played.

    `other` waits until the children of `web` are being ended, which takes a while, and fails then
    if `failure` is set.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.is_ending = Event()
        self.failure: CcinitError | None = None
        self.events: list[str] = []
        self.teardown = Teardown()
        self.phase_time = PhaseTime()
        self.images = {name: make_image(tars) for name, tars in TARS.items()}
        self.auth: Secret | None = None
        self.started: list[tuple[str, ...]] = []
        self.received: dict[str, Reception] = {}
        self.requests: dict[str, PullRequest] = {}

    def children(  # as ImageChildren
        self,
        _guest: object,
        image: Image,
        _directory: str,
        reception: "Reception",
        *_more: object,
        **_limits: object,
    ) -> "Played":
        self.received[image.name] = reception
        return Played(self, image.name)

    def reception(  # as prepare_reception
        self, _children: object, image: Image, credentials: Collection[str]
    ) -> AbstractAsyncContextManager["Reception"]:
        self.started.append((image.name, *credentials))
        return nullcontext(Reception())

    def world(self, *volumes: Volume) -> tuple[Any, Any, Attested]:
        """Return as much of guest, configuration and grants as PULL looks at."""
        images = [
            Image(
                name=name,
                reference=f"r.example/a@{image.digest}",
                policy=None,
                auth=AUTH if self.auth is not None else None,
                ca_pem="",
            )
            for name, image in self.images.items()
        ]
        guest: Any = SimpleNamespace(
            children=None,
            teardown=self.teardown,
            event=self.events.append,
            service=SimpleNamespace(figures=SimpleNamespace(image_bytes={})),
            phase_time=self.phase_time,
        )
        limits = SimpleNamespace(image_bytes=REQUEST.limits.tar_bytes, pull_seconds=60)
        configured: Any = SimpleNamespace(
            config=SimpleNamespace(limits=limits),
            manifest=SimpleNamespace(images=images, registries=(), secrets=(), volumes=volumes),
            measurement=SimpleNamespace(note=lambda _event: None),
        )
        grants: dict[KbsUri, Grant] = {}
        if self.auth is not None:
            grants[AUTH] = Grant(secret=self.auth, create=False)
        return guest, configured, Attested(grants=grants)

    def pull(self, waiting: Any = None) -> Pulled:
        unlocked = Unlocked(volumes={}, store=str(self.store))
        return EventLoop().run(pull(*self.world(), unlocked, waiting))

    def tear_down(self) -> tuple[tuple[str, CcinitError], ...]:
        return EventLoop().run(self.teardown.run())


class Played(Children):
    def __init__(self, pod: Pod, name: str) -> None:
        super().__init__(pod.store / f"image-{name}")
        self.pod, self.name = pod, name
        self.tars = TARS[name]
        self.find(pod.images[name])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_details: object) -> None:
        if self.name == "web":
            self.pod.is_ending.set()
            await sleep(ENDING_SECONDS)

    async def fetch(self, request: PullRequest, decide: Decide, begin: Begin) -> PulledBlobs:
        self.pod.requests[self.name] = request
        if self.name == "other":
            await self.pod.is_ending.wait()
            if self.pod.failure is not None:
                raise self.pod.failure
        return await super().fetch(request, decide, begin)


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
    ("size", "reason"), [(MAX_PIPED_BYTES, ""), (MAX_PIPED_BYTES + 1, "pull.secret")]
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


def test_reference_that_is_none_is_left_to_pull(pod: Pod) -> None:
    guest, configured, attested = pod.world(SCRATCH)
    configured.manifest.images[0] = replace(configured.manifest.images[0], reference="r.example/a")

    async def boot() -> None:
        async with prepare_first(guest, configured) as waiting:
            assert waiting is None
            unlocked = Unlocked(volumes={}, store=str(pod.store))
            await pull(guest, configured, attested, unlocked, waiting)

    with pytest.raises(CcinitError) as refused:
        EventLoop().run(boot())
    assert refused.value.reason.startswith("reference.")
    assert pod.events[0].startswith("image web: reference.")
