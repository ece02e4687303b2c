"""What a pull's children leave behind where they cannot be started."""

import errno
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases import pull_children
from ccinit.agent.phases.pull_children import ImageChildren
from ccinit.errors import KernelError
from ccinit.kernel.event_loop import Turn
from ccinit.pull.layers.growing_tar import open_word_pipe
from ccinit.pull.layers.stream import open_pipe


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


def run(work: Coroutine[object, None, object]) -> None:
    with pytest.raises(StopIteration):
        work.send(None)


def image_children(left: int, directory: Path) -> ImageChildren:
    guest: Any = SimpleNamespace(children=Children(left))
    limits = SimpleNamespace(pull_seconds=1.0)
    configured: Any = SimpleNamespace(config=SimpleNamespace(limits=limits))
    unused: Any = None
    return ImageChildren(guest, configured, unused, unused, str(directory), {}, Turn())


@pytest.fixture
def fds() -> Iterator[list[Path]]:
    before = sorted(Path("/proc/self/fd").iterdir())
    yield before
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def pipes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let so many pipes be made."""
    left = [count]

    def limited(make: Callable[[], tuple[int, int]]) -> tuple[int, int]:
        if not left[0]:
            raise KernelError(errno.EMFILE, "pipe", "layers")
        left[0] -= 1
        return make()

    monkeypatch.setattr(pull_children, "open_pipe", partial(limited, open_pipe))
    monkeypatch.setattr(pull_children, "open_word_pipe", partial(limited, open_word_pipe))


@pytest.mark.parametrize(("made", "started"), [(0, 3), (1, 3), (2, 0), (2, 2)])
@pytest.mark.usefixtures("fds")
def test_pull_that_cannot_begin_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: int, started: int
) -> None:
    pipes(monkeypatch, made)
    with pytest.raises(KernelError) as refused:
        image_children(started, tmp_path).__aenter__().send(None)
    assert refused.value.reason == ("kernel.pipe" if made < 2 else "kernel.clone3")


@pytest.mark.usefixtures("fds")
def test_pull_that_begins_closes_its_own_with_the_block(tmp_path: Path) -> None:
    async def use() -> None:
        async with image_children(3, tmp_path):
            pass

    run(use())


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
