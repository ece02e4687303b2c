"""An outline stands for its tar: later layers see the same directories below them."""

import os
from pathlib import Path

import pytest

from ccinit.pull.layers.tar_pass import LayerPass, lay_over
from ccinit.pull.layers.tree import MergedDirectory, TreeLimits, empty_merged_root
from ccinit.pull.messages.layer_form import LayerForm
from tests.fakes.images.tars import Entry, make_tar

LONG = "/".join(["long" * 20] * 4)
NOTE = (("SCHILY.xattr.user.note", b"n"),)
BASE = make_tar(
    Entry(".", None, mode=0o711, owner=(7, 8)),
    Entry("etc", None),
    Entry("etc/dir/sub/deep", b"deep" * 500),
    Entry("etc/dir", None, mode=0o700, owner=(5, 6), pax=NOTE),
    Entry("p", None, mode=0o1777, pax=(("path", LONG.encode()),)),
    Entry("far", None, mtime=(1 << 33) - 1, pax=(("uid", b"3000000"),)),
)
LAYERS: dict[str, tuple[bytes, ...]] = {
    "directories with all that they have": (BASE,),
    "a directory removed": (BASE, make_tar(Entry("etc/.wh.dir"))),
    "a file over a directory": (BASE, make_tar(Entry("etc/dir", b"now a file"))),
    "a link over a directory": (BASE, make_tar(Entry("etc/dir", kind=b"2", link="..", mode=0o777))),
    "an opaque directory": (
        BASE,
        make_tar(Entry("etc/dir/.wh..wh..opq"), Entry("etc/dir/other/x", b"x")),
    ),
    "an opaque directory with a file where one was": (
        BASE,
        make_tar(Entry("etc/.wh..wh..opq"), Entry("etc/dir", b"x"), Entry("etc/sub", None)),
    ),
    "a directory that the layer implies": (BASE, make_tar(Entry("etc/dir/sub/more/new", b"n"))),
    "removed, and back in a later one": (
        BASE,
        make_tar(Entry("etc/.wh.dir")),
        make_tar(Entry("etc/dir/sub", None, mode=0o750)),
    ),
}


def shown(directory: MergedDirectory) -> object:
    children = {name: shown(child) for name, child in sorted(directory.children.items())}
    return directory.attributes, children


def pass_all(tars: tuple[bytes, ...], directory: Path) -> tuple[MergedDirectory, list[Path]]:
    """Pass over the layers; return what they show, and where the outline of each is."""
    below, outlines = empty_merged_root(), []
    for position, data in enumerate(tars):
        path = directory / f"{position}.tar"
        path.write_bytes(data)
        layer = LayerPass(below, TreeLimits(), LayerForm.COMPRESSED)
        layer.feed(memoryview(data))
        parts: list[bytes] = []
        with path.open("r+b") as file:
            layer.finish(file.fileno(), parts.append)
        outlines.append(directory / f"{position}.outline.tar")
        outlines[-1].write_bytes(b"".join(parts))
    return below, outlines


def laid_over(paths: list[Path]) -> object:
    below = empty_merged_root()
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        lay_over(fd, below)
        os.close(fd)
    return shown(below)


@pytest.mark.parametrize("name", LAYERS)
def test_outlines_show_what_the_tars_have_shown(tmp_path: Path, name: str) -> None:
    below, outlines = pass_all(LAYERS[name], tmp_path)
    assert laid_over(outlines) == shown(below)
    tars = [tmp_path / f"{position}.tar" for position in range(len(outlines))]
    assert laid_over(tars) == shown(below)
    if len(outlines) > 1:  # what the last layer does is not nothing
        assert laid_over(outlines[:-1]) != shown(below)


def test_outline_has_no_content_and_nothing_but_directories(tmp_path: Path) -> None:
    big = make_tar(*(Entry(f"d/f{number}", b"x" * 5000) for number in range(50)))
    _below, outlines = pass_all((big,), tmp_path)
    assert outlines[0].stat().st_size == 4 * 512  # root, d, and the end


def test_outline_is_not_made_unless_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccinit.pull.layers.tar_pass.encode_outline", pytest.fail)
    layer = LayerPass(empty_merged_root(), TreeLimits())
    layer.feed(memoryview(BASE))
    with (tmp_path / "tar").open("w+b") as file:
        layer.finish(file.fileno())
