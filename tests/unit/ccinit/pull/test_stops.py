"""Pulls that share layers, stopped at each wait: no mount, no key and nobody who waits is left."""

import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ccinit.kernel.event_loop import EventLoop, TaskGroup, sleep
from ccinit.pull.image import PulledImage, pull_image, unmount_layers
from ccinit.pull.layer_store import LayerStore
from ccinit.secret import Secret
from tests.fakes.images.encrypted_image import make_encrypted_image, seal
from tests.fakes.images.layer_pipes import LayerPipe
from tests.fakes.images.tars import Entry, make_tar
from tests.fakes.machine.interruptions import each_stop
from tests.unit.ccinit.pull.image_children import TARS, Children, Mounts, children_of

SEALED = seal(TARS[1])
ENCRYPTED = make_encrypted_image([gzip.compress(TARS[0]), SEALED], TARS)
OTHER = make_tar(Entry("c", b"zzz"))


class SlowChildren:
    """Children that let others go on before and after each thing that they do.

    Attributes:
        keys: what `decrypt` was given.
    """

    def __init__(self, children: Children) -> None:
        self.keys: list[Secret] = []
        self._children = children

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._children, name)
        return self._slowly(found) if callable(found) else found

    def _slowly(self, job: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def slow_job(*arguments: object) -> object:
            self.keys += (one for one in arguments if isinstance(one, Secret))
            await sleep(0)
            done = await job(*arguments)
            await sleep(0)
            return done

        return slow_job


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> Mounts:
    mounts = Mounts()
    monkeypatch.setattr("ccinit.pull.image.mount", mounts.mount)
    monkeypatch.setattr("ccinit.pull.image.detach", mounts.detach)
    return mounts


async def pull_all(pulls: list[tuple[SlowChildren, Any]], pulled: list[PulledImage]) -> None:
    """Pull as the agent does: what is there when it ends goes to whoever unmounts it."""
    store = LayerStore()

    async def pull(children: SlowChildren, request: Any) -> None:
        image = await pull_image(request, children.workspace, children, store)
        pulled.append(image)

    async with TaskGroup() as group:
        for children, request in pulls:
            group.start(pull(children, request), "pull")


def images(work: Path) -> list[tuple[SlowChildren, Any]]:
    """Two that share a layer, and an encrypted one, which shares none."""
    work.mkdir()
    made = [children_of(work, name, tars) for name, tars in (("a", TARS), ("b", [TARS[0], OTHER]))]
    (work / "c").mkdir()
    encrypted = Children(work / "c")
    encrypted.file = LayerPipe([gzip.compress(TARS[0]), SEALED.blob])
    made.append((encrypted, encrypted.find(ENCRYPTED)))
    return [(SlowChildren(children), request) for children, request in made]


def test_pulls_that_are_stopped_leave_nothing_and_nobody_waiting(
    tmp_path: Path, mounts: Mounts
) -> None:
    for number, stop in enumerate(each_stop()):
        pulls, pulled = images(tmp_path / str(number)), list[PulledImage]()
        stop.verify(EventLoop().run(stop.attempt(pull_all(pulls, pulled))))
        for image in pulled:
            unmount_layers(image.own)
        assert mounts.mounted == [], stop
        keys = [key for children, _ in pulls for key in children.keys]
        assert all(len(key) == 0 for key in keys), stop
        if not stop.has_happened:
            assert (len(pulled), len(keys)) == (3, 1)
