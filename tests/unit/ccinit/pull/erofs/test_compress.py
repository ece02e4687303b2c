"""What PID 1 does about compressed layers, mkfs.erofs played."""

import os
import stat
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, ChildError
from ccinit.kernel.event_loop import EventLoop
from ccinit.pull.erofs.compress import compress_layers
from ccinit.pull.layer_store import LayerFiles

SIZES = (3000, 1000, 2000)


class Children:
    """mkfs.erofs that notes what it is given, and under which rights."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tars: list[str] = []
        self.modes: set[int] = set()
        self.error: CcinitError | None = None

    async def compress(self, tar: str, arguments: tuple[str, ...]) -> None:
        self.tars.append(Path(tar).name)
        self.modes |= {mode(self.directory), mode(Path(tar))}
        put(Path(arguments[-1]))
        if self.error is not None:
            raise self.error


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def put(path: Path, link: str = "") -> None:
    if link:
        path.symlink_to(link)
    else:
        path.write_bytes(b"erofs")


@pytest.fixture
def children(tmp_path: Path) -> Children:
    for position, size in enumerate(SIZES, start=1):
        (tmp_path / f"layer-{position}.tar").write_bytes(bytes(size))
        (tmp_path / f"layer-{position}.outline.tar").write_bytes(b"")
    return Children(tmp_path)


def compress(children: Children) -> tuple[LayerFiles, ...]:
    work = compress_layers(str(children.directory), range(1, 4), children, os.geteuid())
    return EventLoop().run(work)


def test_layers_are_compressed_the_smallest_first_and_their_tars_go(children: Children) -> None:
    layers = compress(children)
    assert children.tars == ["layer-2.tar", "layer-3.tar", "layer-1.tar"]
    assert [Path(layer.index).name for layer in layers] == [f"layer-{n}.erofs" for n in (1, 2, 3)]
    assert [Path(layer.tar).name for layer in layers] == [
        f"layer-{n}.outline.tar" for n in (1, 2, 3)
    ]
    assert all(layer.is_compressed for layer in layers)
    left = {path.name for path in children.directory.iterdir()}
    assert left == {f"layer-{n}.{end}" for n in (1, 2, 3) for end in ("erofs", "outline.tar")}


def test_what_was_checked_cannot_be_touched_by_who_compresses(children: Children) -> None:
    compress(children)
    assert children.modes == {0o1730, 0o400}
    assert mode(children.directory) == 0o700
    assert {mode(path) for path in children.directory.iterdir()} == {0o400}


@pytest.mark.parametrize(
    ("said", "reason"),
    [("failed to write: No space left on device", "pull.enospc"), ("bad header", "pull.index")],
)
def test_failure_on_a_full_store_is_told_as_that(
    children: Children, said: str, reason: str
) -> None:
    children.error = ChildError("pull.index", f"mkfs.erofs complains: {said}")
    with pytest.raises(CcinitError) as refused:
        compress(children)
    assert refused.value.reason == reason
    assert said in refused.value.detail


def test_link_in_place_of_a_file_system_is_refused(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def link(_tar: str, arguments: tuple[str, ...]) -> None:
        put(Path(arguments[-1]), link="/etc/passwd")

    monkeypatch.setattr(children, "compress", link)
    with pytest.raises(CcinitError) as refused:
        compress(children)
    assert refused.value.reason == "kernel.open"
