"""PULL's own part: several images at once, and what becomes of their mounts if one fails."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from ccinit.agent.attestation import Attested
from ccinit.agent.guest import Teardown
from ccinit.agent.images import Pulled, pull
from ccinit.agent.storage import Unlocked
from ccinit.errors import CcinitError, PeerError
from ccinit.formats.pod_manifest import Image
from ccinit.kernel.event_loop import Event, EventLoop, sleep
from ccinit.pull.fetch_messages import PulledBlobs, PullRequest
from ccinit.pull.reception import Begin
from ccinit.pull.verdict import Decide
from tests.fakes.registry import make_image
from tests.fakes.tars import Entry, make_tar
from tests.unit.ccinit.pull.image_children import REQUEST, Children, Mounts

TARS: Mapping[str, list[bytes]] = {
    name: [make_tar(Entry(f"{name}-{number}", b"x")) for number in range(2)]
    for name in ("web", "other")
}
ENDING_SECONDS = 0.05


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> Mounts:
    mounts = Mounts()
    monkeypatch.setattr("ccinit.pull.image.mount", mounts.mount)
    monkeypatch.setattr("ccinit.pull.image.umount2", mounts.umount2)
    return mounts


class Pod:
    """A manifest with two images, whose children are played.

    `other` waits until the children of `web` are being ended, which takes a while, and fails then
    if `failure` is set.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.is_ending = Event()
        self.failure: CcinitError | None = None
        self.teardown = Teardown()
        self.images = {name: make_image(tars) for name, tars in TARS.items()}

    def children(
        self, _guest: object, _configured: object, _attested: object, image: Image, *_more: object
    ) -> "Played":
        return Played(self, image.name)

    def pull(self) -> Pulled:
        images = [
            Image(
                name=name,
                reference=f"r.example/a@{image.digest}",
                policy=None,
                auth=None,
                ca_pem="",
            )
            for name, image in self.images.items()
        ]
        guest: Any = SimpleNamespace(
            teardown=self.teardown,
            event=lambda _text: None,
            service=SimpleNamespace(figures=SimpleNamespace(image_bytes={})),
        )
        limits = SimpleNamespace(image_bytes=REQUEST.limits.tar_bytes, pull_seconds=60)
        configured: Any = SimpleNamespace(
            config=SimpleNamespace(limits=limits),
            manifest=SimpleNamespace(images=images, registries=()),
            measurement=SimpleNamespace(note=lambda _event: None),
        )
        unlocked = Unlocked(volumes={}, store=str(self.store))
        return EventLoop().run(pull(guest, configured, Attested(grants={}), unlocked))

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
        if self.name == "other":
            await self.pod.is_ending.wait()
            if self.pod.failure is not None:
                raise self.pod.failure
        return await super().fetch(request, decide, begin)


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    pod = Pod(tmp_path)
    monkeypatch.setattr("ccinit.agent.images.ImageChildren", pod.children)
    return pod


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
    pod.failure = PeerError("registry.not_found", "")
    with pytest.raises(PeerError) as refused:
        pod.pull()
    assert refused.value is pod.failure
    assert len(mounts.calls) == 2  # those of the image that was whole
    assert pod.tear_down() == ()
    assert mounts.mounted == []
