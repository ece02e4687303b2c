"""Layers in every legal form: indexed, mounted, equal to our pass, and the same tree as umoci's.

`pull_image` itself compares the mounted tree with the pass; umoci tells whether both are right.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.oci.image import MAX_LAYERS
from ccinit.kernel.mount import detach
from ccinit.pull.erofs.index import IndexRequest
from ccinit.pull.image import pull_image
from ccinit.pull.layer_store import LayerStore
from ccinit.run.rootfs import activate_rootfs
from tests.fakes.images.registry import FakeImage, make_image
from tests.fakes.images.tars import END, Entry, encode, header, long_name, make_tar, pad, record
from tests.integration.pull.layer_oracle import (
    Downloaded,
    assert_same_tree_as_umoci,
    image_of,
    request_for,
)
from tests.integration.pull.native_pull import describe_tree, drive, overlaid

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def pax(**records: bytes) -> tuple[tuple[str, bytes], ...]:
    return tuple(records.items())


ROOT = Entry(".", None)
LONG = "/".join(["long" * 20] * 12)
COMMENT = record(b"comment", b"made by a test")
BASE = make_tar(
    ROOT,
    Entry("etc", None),
    Entry("etc/one", b"1"),
    Entry("etc/two", b"2" * 3000),
    Entry("etc/dir", None, mode=0o700, owner=(5, 6)),
    Entry("etc/dir/old", b"old"),
    Entry("etc/dir/sub", None),
    Entry("etc/dir/sub/deep", b"deep"),
    Entry("tmp", None, mode=0o1777),
)

LAYERS: dict[str, tuple[bytes, ...]] = {
    "files, links and modes": (
        make_tar(
            ROOT,
            Entry("bin", None),
            Entry("bin/su", b"x", mode=0o4755, owner=(0, 42)),
            Entry("bin/again", kind=b"1", link="bin/su"),
            Entry("bin/absolute", kind=b"1", link="/bin/su"),
            Entry("sh", kind=b"2", link="../../../bin/su", mode=0o777),
            Entry("sh2", kind=b"1", link="sh"),
            Entry("bin/big", os.urandom(3_000_001)),
        ),
    ),
    "large ids and times": (
        make_tar(
            ROOT,
            Entry("a", b"x", pax=pax(uid=b"3000000", gid=b"4294967294")),
            Entry("b", b"x", mtime=0),
            Entry("c", b"x", mtime=(1 << 33) - 1, pax=pax(mtime=b"8589934591.999999999")),
            Entry("d", b"x", pax=pax(mtime=b"1700000000.999999999")),
            Entry("e", fields={108: b"\x80" + (3_000_000).to_bytes(7, "big")}),
        ),
    ),
    "long names of both kinds": (
        make_tar(ROOT, Entry("p", b"x", pax=pax(path=LONG.encode())))[: -len(END)]
        + long_name(b"L", (LONG + "2").encode() + b"\0")
        + header("g", b"0")
        + long_name(b"K", b"target/" * 30 + b"\0")
        + header("link", b"2", mode=0o777, link="x")
        + END,
    ),
    "xattrs": (
        make_tar(
            ROOT,
            Entry("ping", b"x", pax=(("SCHILY.xattr.security.capability", CAPABILITY),)),
            Entry("note", b"x", pax=(("SCHILY.xattr.user.note", b"\n=\0x"),)),
            Entry("dir", None, pax=(("SCHILY.xattr.user.note", b"d"),)),
        ),
    ),
    "names that are odd": (
        make_tar(ROOT, Entry("ünï\ncode", b"x"), Entry("A"), Entry("a"), Entry("-"), Entry("..a")),
    ),
    "nothing at all": (make_tar(ROOT), make_tar(ROOT)),
    "removals": (
        BASE,
        make_tar(Entry("etc/.wh.one"), Entry("etc/dir/.wh.sub"), Entry("etc/new", b"n")),
    ),
    "opaque directory": (
        BASE,
        make_tar(
            Entry("etc/dir", None, mode=0o750),
            Entry("etc/dir/new", b"n"),
            Entry("etc/dir/.wh..wh..opq"),
        ),
    ),
    "opaque directory with a whiteout": (
        BASE,
        make_tar(Entry("etc/dir", None), Entry("etc/dir/.wh..wh..opq"), Entry("etc/dir/.wh.old")),
    ),
    "kinds that change": (
        BASE,
        make_tar(
            Entry("etc/one", None),
            Entry("etc/one/in", b"i"),
            Entry("etc/dir", b"now a file"),
            Entry("etc/two", kind=b"2", link="one", mode=0o777),
        ),
    ),
    "removed and back in a later layer": (
        BASE,
        make_tar(Entry("etc/.wh.dir")),
        make_tar(Entry("etc/dir", None), Entry("etc/dir/new", b"n")),
    ),
    "sizes around a block": (
        make_tar(ROOT, *(Entry(f"f{size}", b"x" * size) for size in (0, 1, 511, 512, 513, 4096))),
    ),
    "a path in the ustar prefix": (
        make_tar(ROOT, Entry("file", b"x", fields={345: b"/".join([b"prefix"] * 20)})),
    ),
    "a name as long as the file system takes": (
        make_tar(ROOT, Entry("p", b"x", pax=pax(path=b"n" * 255))),
    ),
    "directories one in another": (
        make_tar(ROOT, *(Entry("/".join("d" * depth), None) for depth in range(1, 40))),
    ),
    "a directory after what is in it": (
        make_tar(ROOT, Entry("d/e/f", b"x"), Entry("d/e", None, mode=0o700), Entry("d", None)),
    ),
    "symbolic links of every kind": (
        make_tar(
            ROOT,
            Entry("dangling", kind=b"2", link="nowhere", mode=0o777),
            Entry("itself", kind=b"2", link="itself", mode=0o777),
            Entry("outside", kind=b"2", link="../../../../etc/shadow", mode=0o777),
            Entry("absolute", kind=b"2", link="/etc/passwd", mode=0o777),
            Entry("slash", kind=b"2", link="d/", mode=0o777, owner=(3, 4)),
            Entry("d", None),
        ),
    ),
    "hard links in a chain": (
        make_tar(
            ROOT,
            Entry("a", b"content", owner=(1, 2)),
            Entry("b", kind=b"1", link="a"),
            Entry("d/c", kind=b"1", link="./b"),
            Entry("empty"),
            Entry("empty2", kind=b"1", link="empty"),
        ),
    ),
    "a hard link whose target is replaced": (
        make_tar(
            ROOT, Entry("a", b"old"), Entry("b", kind=b"1", link="a"), Entry("a", b"new content")
        ),
    ),
    "modes with every bit": (
        make_tar(
            ROOT,
            Entry("suid", b"x", mode=0o4711),
            Entry("sgid", b"x", mode=0o2755),
            Entry("sticky", b"x", mode=0o1644),
            Entry("all", b"x", mode=0o7777),
            Entry("shared", None, mode=0o2775, owner=(0, 50)),
        ),
    ),
    "zeros behind the end": (make_tar(ROOT, Entry("a", b"x"), end=bytes(10240)),),
    "an archive without an end": (make_tar(ROOT, Entry("a", b"x"), end=b""),),
    "times of directories": (
        make_tar(ROOT, Entry("d", None, mtime=86_400), Entry("d/f", b"x", mtime=1)),
    ),
    "a whiteout of nothing": (BASE, make_tar(Entry("etc/.wh.none"), Entry("etc/dir/.wh.none"))),
    "a whiteout of a whole tree": (BASE, make_tar(Entry(".wh.etc"), Entry("other", b"x"))),
    "an opaque directory in another": (
        BASE,
        make_tar(
            Entry("etc/dir/sub/.wh..wh..opq"),
            Entry("etc/dir/sub/new", b"n"),
            Entry("etc/dir/.wh..wh..opq"),
        ),
    ),
    "a directory over a link": (
        make_tar(ROOT, Entry("real", None), Entry("link", kind=b"2", link="real", mode=0o777)),
        make_tar(Entry("link", None), Entry("link/file", b"in the directory, not through it")),
    ),
    "a link over a directory": (
        BASE,
        make_tar(Entry("etc/dir", kind=b"2", link="../tmp", mode=0o777)),
        make_tar(Entry("etc/new", b"n")),
    ),
    "the same file in every layer": tuple(
        make_tar(ROOT, Entry("a", b"%d" % number, owner=(number, 0))) for number in range(5)
    ),
    "the root itself": (
        make_tar(Entry("./", None, mode=0o711, owner=(7, 8)), Entry("./a", b"x")),
        make_tar(Entry("./", None, mode=0o755, owner=(0, 0)), Entry("./b", b"x")),
    ),
    "R68: letters that look the same": (
        make_tar(
            ROOT,
            Entry("\u00e9", b"composed"),
            Entry("e\u0301", b"decomposed"),
            Entry("K", b"letter"),
            Entry("\u212a", b"kelvin"),
            Entry("README"),
            Entry("readme"),
        ),
    ),
    "R68: a file, then a directory, then a file": (
        make_tar(
            ROOT,
            Entry("a", b"1"),
            Entry("a", None),
            Entry("a/b", b"2"),
            Entry("a", b"3"),
            Entry("l", kind=b"2", link="a", mode=0o777),
            Entry("l", b"4"),
        ),
    ),
    "repeated paths": (
        make_tar(
            ROOT,
            Entry("a", b"x"),
            Entry("a", None),
            Entry("a/b", b"y"),
            Entry("h", kind=b"1", link="a/b"),
            Entry("a", b"last"),
            Entry("d", None, mode=0o700),
            Entry("d/x"),
            Entry("d", None, mode=0o711),
        ),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_tree_that_umoci_unpacks(tmp_path: Path, name: str) -> None:
    assert_same_tree_as_umoci(LAYERS[name], tmp_path)


def test_directories_that_are_not_described_keep_what_is_below(tmp_path: Path) -> None:
    tars = (BASE, make_tar(Entry("etc/dir/new", b"n"), Entry("tmp/x"), Entry("fresh/y")))
    with (
        image_of(tars, tmp_path / "pull") as image,
        overlaid(image, tmp_path / "overlay") as merged,
    ):
        tree = describe_tree(merged)
        lower = describe_tree(Path(image.layers[1].mount_point))
    assert tree["etc/dir"][:4] == ("drwx------", 5, 6, 1_700_000_000)
    assert tree["tmp"][:3] == ("drwxrwxrwt", 0, 0)
    assert tree["fresh"][:4] == ("drwxr-xr-x", 0, 0, 0)
    assert lower["."][:3] == ("drwxr-xr-x", 0, 0)


def test_comment_for_everybody_is_no_entry(tmp_path: Path) -> None:
    """git archive writes one; umoci 0.4.7 refuses it, as it does every global header."""
    extension = header("g", b"g", size=len(COMMENT)) + pad(COMMENT)
    with image_of((make_tar(Entry("a", b"x", before=extension)),), tmp_path / "pull") as image:
        (path,) = Path(image.layers[0].mount_point).iterdir()
        assert path.read_bytes() == b"x"


def marked(**marks: bytes) -> tuple[tuple[str, bytes], ...]:
    """PAX records of marks that an overlay with `userxattr` sets."""
    return tuple((f"SCHILY.xattr.user.overlay.{name}", value) for name, value in marks.items())


def test_notes_that_a_builders_overlay_has_left_change_nothing(tmp_path: Path) -> None:
    """As Buildah's did without root; the origin may be empty, and then other readers drop it."""
    handle = b"\0\xfb\x1d\0\x01" + bytes(range(24))
    tars = (
        BASE,
        make_tar(
            Entry("etc", None, pax=marked(origin=handle, impure=b"y")),
            Entry("etc/one", b"2", pax=marked(origin=b"")),
        ),
    )
    with (
        image_of(tars, tmp_path / "pull") as image,
        overlaid(image, tmp_path / "overlay") as merged,
    ):
        tree = describe_tree(merged)
        assert tree["etc"][-1] == (("user.overlay.impure", b"y"), ("user.overlay.origin", handle))
        assert tree["etc/one"][-1] == (("user.overlay.origin", b""),)
        (merged / "etc/one").write_bytes(b"3")
        assert {path.name for path in (merged / "etc").iterdir()} == {"one", "two", "dir"}
        assert (merged / "etc/one").read_bytes() == b"3"


def test_layer_without_a_single_byte_is_an_empty_directory(tmp_path: Path) -> None:
    with (
        image_of((BASE, b""), tmp_path / "pull") as image,
        overlaid(image, tmp_path / "overlay") as merged,
    ):
        assert (merged / "etc/one").read_bytes() == b"1"


def test_layer_that_stands_twice_is_mounted_twice(tmp_path: Path) -> None:
    tars = (BASE, make_tar(Entry("etc/.wh.one")), BASE)
    with (
        image_of(tars, tmp_path / "pull") as image,
        overlaid(image, tmp_path / "overlay") as merged,
    ):
        assert (merged / "etc/one").read_bytes() == b"1"


def test_as_many_layers_as_an_image_may_have_are_mounted_over_each_other(tmp_path: Path) -> None:
    """As the guest does it, with paths as long as a manifest's names make them."""
    tars = [
        make_tar(Entry(f"f{n}", b"%d" % n), Entry("last", b"%d" % n)) for n in range(MAX_LAYERS)
    ]
    folder = tmp_path / ("image-" + "x" * 63)
    with image_of(tars, folder) as image:
        lowers = tuple(layer.mount_point for layer in reversed(image.layers))
        root = tmp_path / "root"
        activate_rootfs(lowers, str(tmp_path / "scratch"), str(root))
        try:
            assert (root / "f0").read_bytes() == b"0"
            assert (root / "last").read_bytes() == b"%d" % (MAX_LAYERS - 1)
            assert sum(1 for _ in root.iterdir()) == MAX_LAYERS + 1
        finally:
            detach(str(root))
        assert not root.is_mount()


def test_twenty_thousand_files_are_where_they_belong(tmp_path: Path) -> None:
    entries = [Entry(f"d{n % 50}/f{n}", b"%d" % n) for n in range(20_000)]
    with image_of((b"".join(map(encode, entries)),), tmp_path / "pull") as image:
        assert (Path(image.layers[0].mount_point) / "d7/f57").read_bytes() == b"57"


class Cheat(Downloaded):
    """mkfs.erofs works on another archive than the one that was checked."""

    def __init__(
        self, workspace: Path, image: FakeImage, tars: Sequence[bytes], other: bytes
    ) -> None:
        super().__init__(workspace, image, tars)
        self.other = other

    async def index(self, request: IndexRequest) -> None:
        tar = Path(self.channel.workspace) / "layer-0.tar"
        checked = tar.read_bytes()
        tar.write_bytes(self.other)
        await super().index(request)
        tar.write_bytes(checked)


GOOD = (Entry("a", b"1" * 600), Entry("b", b"2" * 600))
TREES: dict[str, tuple[Entry, ...]] = {
    "another owner": (Entry("a", b"1" * 600, owner=(1, 0)), GOOD[1]),
    "another mode": (Entry("a", b"1" * 600, mode=0o4755), GOOD[1]),
    "another time": (Entry("a", b"1" * 600, mtime=7), GOOD[1]),
    "another size": (Entry("a", b"1" * 601), GOOD[1]),
    "one more": (*GOOD, Entry("c")),
    "one less": GOOD[:1],
    "a link": (GOOD[0], Entry("b", kind=b"1", link="a")),
    "content of the other": GOOD[::-1],
    "a device": (*GOOD, Entry("c", kind=b"3", fields={329: b"0000001\0", 337: b"0000003\0"})),
    "a trusted xattr": (
        Entry(".", None, mtime=0, pax=(("SCHILY.xattr.trusted.overlay.opaque", b"y"),)),
        *GOOD,
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_index_that_shows_another_tree_is_refused(tmp_path: Path, name: str) -> None:
    tar = make_tar(Entry(".", None, mtime=0), *GOOD)
    entries = TREES[name]
    other = make_tar(
        *((Entry(".", None, mtime=0), *entries) if entries[0].path != "." else entries)
    )
    image = make_image([tar])
    (tmp_path / "refused").mkdir()
    cheat = Cheat(tmp_path / "refused", image, [tar], other)
    with pytest.raises(CcinitError) as refused:
        drive(pull_image(request_for(image), str(tmp_path / "refused"), cheat, LayerStore()))
    assert refused.value.reason in {"pull.tree", "tree.kind"}
    assert not (tmp_path / "refused" / "layer-0").is_mount()
    with image_of((tar,), tmp_path / "taken") as taken:
        assert taken.manifest == parse_digest(image.digest)
        assert json.loads(image.manifest)["schemaVersion"] == 2
