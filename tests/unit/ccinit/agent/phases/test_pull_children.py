"""What a pull's children leave behind where they cannot be started."""

import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from ccinit.agent.phases import pull_children, reception_children
from ccinit.agent.phases.pull_children import ImageChildren
from ccinit.agent.phases.reception_children import prepare_reception
from ccinit.agent.processes.roles import Role
from ccinit.errors import KernelError
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.pod.manifest import Image
from ccinit.kernel.pipes import open_pipes
from ccinit.pull.layers.growing_tar import open_word_pipe
from ccinit.pull.layers.stream import open_pipe
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.machine.no_waiting import finish
from tests.fakes.machine.scarcity import count_descriptors

T = TypeVar("T")
PLAIN = Image(name="web", reference="", policy=None, auth=None, ca_pem="")


class Children:
    """Starts nothing; refuses from the `left`th start on."""

    def __init__(self, left: int) -> None:
        self.left = left

    @asynccontextmanager
    async def prepare(self, _role: object, **_what: object) -> AsyncIterator[object]:
        if not self.left:
            raise KernelError(errno.EAGAIN, "clone3", "child")
        self.left -= 1
        yield object()


def reception_of(left: int, image: Image = PLAIN) -> Any:
    children: Any = Children(left)
    return prepare_reception(children, image, ("auth", "key-0"))


def image_children(left: int, directory: Path) -> ImageChildren:
    guest: Any = SimpleNamespace(children=Children(left))
    unused: Any = None
    return ImageChildren(guest, PLAIN, str(directory), unused, unused, seconds=1.0)


@pytest.fixture
def fds() -> Iterator[list[Path]]:
    before = sorted(Path("/proc/self/fd").iterdir())
    yield before
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def pipes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let so many pipes be made."""
    left = [count]

    def limited(make: Callable[[], T]) -> T:
        if not left[0]:
            raise KernelError(errno.EMFILE, "pipe", "layers")
        left[0] -= 1
        return make()

    for module in (pull_children, reception_children):
        monkeypatch.setattr(module, "open_pipe", partial(limited, open_pipe))
    monkeypatch.setattr(reception_children, "open_word_pipe", partial(limited, open_word_pipe))
    monkeypatch.setattr(
        reception_children, "open_pipes", lambda count: limited(lambda: open_pipes(count))
    )


@pytest.mark.parametrize(("made", "started"), [(0, 4), (1, 4), (2, 4), (3, 0), (3, 3)])
@pytest.mark.usefixtures("fds")
def test_pull_that_cannot_begin_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch, made: int, started: int
) -> None:
    pipes(monkeypatch, made)
    with pytest.raises(KernelError) as refused:
        reception_of(started).__aenter__().send(None)
    assert refused.value.reason == ("kernel.pipe" if made < 3 else "kernel.clone3")


@pytest.mark.parametrize(
    ("image", "started"),
    [
        (PLAIN, 4),
        (replace(PLAIN, encryption=ImageEncryption.REQUIRED), 2),
        (replace(PLAIN, keys=(ResourceUri("ccinit", "shop", "file-key"),)), 2),
    ],
)
@pytest.mark.usefixtures("fds")
def test_pull_that_begins_closes_its_own_with_the_block(image: Image, started: int) -> None:
    """Who reads layers is not started ahead where keys have to be opened first.

    If they are, nobody else has their ends of the pipes: each has to notice if the other ends.
    """

    async def use(left: int) -> None:
        before = count_descriptors()
        async with reception_of(left, image) as reception:
            held = ["blobs_in", "auth", "key-0"]
            if image is not PLAIN:
                held += ["blobs_out", "words_in", "words_out"]
            is_waiting = (reception.unpack is not None, reception.layers is not None)
            assert is_waiting == (image is PLAIN, image is PLAIN)
            assert count_descriptors() == before + len(held)
            reception.give({"auth": Secret(b"password")})
            assert count_descriptors() == before + len(held) - 1

    finish(use(started))
    with pytest.raises(KernelError):
        use(started - 1).send(None)


@pytest.mark.parametrize(("made", "started"), [(0, 1), (1, 0)])
@pytest.mark.usefixtures("fds")
def test_compression_that_cannot_begin_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: int, started: int
) -> None:
    pipes(monkeypatch, made)
    tar = tmp_path / "layer-0.tar"
    tar.write_bytes(b"")
    with pytest.raises(KernelError) as refused:
        image_children(started, tmp_path).compress(str(tar), ()).send(None)
    assert refused.value.reason == ("kernel.pipe" if not made else "kernel.clone3")


def test_credentials_come_with_the_job_and_each_ends() -> None:
    given: dict[str, int] = {}

    class Noting(Children):
        @asynccontextmanager
        async def prepare(self, _role: object, **_what: Any) -> AsyncIterator[object]:
            if _role is Role.REGISTRY:
                given.update({name: os.dup(fd) for name, fd in _what["fds"].items()})
            async with super().prepare(_role, **_what) as child:
                yield child

    async def use() -> None:
        children: Any = Noting(4)
        async with prepare_reception(children, PLAIN, ("auth", "key-0")) as reception:
            for reader in given.values():
                os.set_blocking(reader, False)
                with pytest.raises(BlockingIOError):
                    os.read(reader, 1)
            contents = {"auth": b"password", "key-0": b"key"}
            reception.give({name: Secret(content) for name, content in contents.items()})
            for name, content in contents.items():
                assert os.read(given[name], 100) == content
                assert os.read(given[name], 1) == b""

    finish(use())
    for reader in given.values():
        os.close(reader)
