"""The walks of a layer's tree: their order, and that they hold no more than what is in hand."""

import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from ccinit.formats.oci.tar_entry import TarEntry, TarKind
from ccinit.pull.layers.listing import Listing
from ccinit.pull.layers.outline import encode_outline
from ccinit.pull.layers.tree import LayerTree, TreeLimits, empty_merged_root, walk_directories

DEEP = b"/".join([b"d" * 250] * 15)  # nearly PATH_MAX
WIDE = 3000
FEW_BYTES = 1 << 20


def entry(path: bytes, kind: TarKind = TarKind.FILE) -> TarEntry:
    return TarEntry(path=path, kind=kind, mode=0o755, uid=0, gid=0, size=0, mtime=0)


def tree_of(*entries: TarEntry) -> LayerTree:
    tree = LayerTree(empty_merged_root(), TreeLimits())
    for one in entries:
        tree.add(one)
    return tree


def test_directories_come_before_what_is_in_them_and_hide_what_they_say() -> None:
    below = empty_merged_root()
    below.apply(tree_of(*(entry(path, TarKind.DIRECTORY) for path in (b"a/b", b"c/d"))).root)
    upper = tree_of(
        entry(b"a/b/x", TarKind.DIRECTORY),
        entry(b"c/d/y", TarKind.DIRECTORY),
        entry(b"c/.wh..wh..opq"),
        entry(b"c/file"),
        entry(b"new", TarKind.DIRECTORY),
    )
    walked = [(path, under) for path, _node, under in walk_directories(upper.root, below)]
    shown = {path: under is not None for path, under in walked}
    assert [path for path, _under in walked] == [
        b"",
        b"a",
        b"a/b",
        b"a/b/x",
        b"c",
        b"c/d",
        b"c/d/y",
        b"new",
    ]
    # What is opaque still looks as below; what lies in it does not.
    assert [path for path, is_shown in shown.items() if is_shown] == [b"", b"a", b"a/b", b"c"]


def list_all(tree: LayerTree) -> Iterator[object]:
    tree.list_into(Listing())
    yield from ()


WALKS: dict[str, Callable[[LayerTree], Iterator[object]]] = {
    "listing": list_all,
    "implied directories": LayerTree.settle_implied,
    "outline": lambda tree: encode_outline(tree.root, empty_merged_root()),
}


@pytest.mark.parametrize("name", WALKS)
def test_walk_does_not_hold_the_paths_of_all_siblings(name: str) -> None:
    names = [DEEP + b"/%d/f" % number for number in range(WIDE)]
    tree = tree_of(*(entry(path) for path in names))
    tracemalloc.start()
    try:
        steps = sum(1 for _step in WALKS[name](tree))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert steps >= WIDE or name == "listing"
    assert peak < FEW_BYTES < WIDE * len(DEEP)
