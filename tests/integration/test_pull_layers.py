"""Layers in every legal form: indexed, mounted, equal to our pass, and the same tree as umoci's.

`pull_image` itself compares the mounted tree with the pass; umoci tells whether both are right.
"""

import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.digest import parse_digest
from ccinit.formats.oci_image import MAX_LAYERS
from ccinit.formats.pod_manifest import ImageEncryption
from ccinit.pull.image import PulledImage, pull_image, unmount_layers
from ccinit.pull.messages import PulledBlobs, PullLimits, PullRequest
from ccinit.pull.verdict import Decide
from ccinit.run.rootfs import activate_rootfs, deactivate_rootfs, plan_rootfs
from rootfs_builder.oci_layout import TAG, ImageLayer, write_layout
from tests.fakes.registry import LAYER, FakeImage, make_image
from tests.fakes.tars import END, Entry, encode, header, long_name, make_tar
from tests.integration.pull_fixture import LocalChildren, describe_tree, drive, overlaid
from tests.integration.registry_fixture import TOOLS

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


class Downloaded(LocalChildren):
    """The registry child's part is played: the tars are there."""

    def __init__(self, workspace: Path, image: FakeImage, tars: Sequence[bytes]) -> None:
        super().__init__(workspace)
        self.image = image
        self.tars = tars

    async def fetch(self, request: PullRequest, decide: Decide) -> PulledBlobs:  # noqa: ARG002
        names = tuple(f"layer-{position}.tar" for position in range(len(self.tars)))
        for name, tar in zip(names, self.tars, strict=True):
            (Path(self.channel.workspace) / name).write_bytes(tar)
        return PulledBlobs(
            documents=(self.image.manifest,),
            config=self.image.config,
            files=names,
            downloaded_bytes=0,
        )


@contextmanager
def image_of(tars: Sequence[bytes], directory: Path) -> Iterator[PulledImage]:
    directory.mkdir()
    image = make_image(tars)
    request = PullRequest(
        reference=f"r.example/a@{image.digest}",
        ca_pem="",
        auth=b"",
        limits=PullLimits(tar_bytes=1 << 30, total_seconds=60),
        encryption=ImageEncryption.ALLOWED,
    )
    children = Downloaded(directory, image, tars)
    result = drive(pull_image(request, str(directory), children))
    try:
        yield result
    finally:
        unmount_layers(result.layers)


def unpack_with_umoci(tars: Sequence[bytes], directory: Path) -> Path:
    directory.mkdir()
    layers = [
        ImageLayer(
            media_type=f"{LAYER}+gzip",
            blob=gzip.compress(tar),
            diff_id=f"sha256:{hashlib.sha256(tar).hexdigest()}",
        )
        for tar in tars
    ]
    write_layout(layers, {}, directory / "layout")
    TOOLS.run(
        ("umoci", "unpack", "--image", f"{directory / 'layout'}:{TAG}", directory / "bundle"),
        directories=(directory,),
    )
    return directory / "bundle" / "rootfs"


def pax(**records: bytes) -> tuple[tuple[str, bytes], ...]:
    return tuple(records.items())


ROOT = Entry(".", None)
LONG = "/".join(["long" * 20] * 12)
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
    tars = LAYERS[name]
    with (
        image_of(tars, tmp_path / "pull") as image,
        overlaid(image, tmp_path / "overlay") as merged,
    ):
        ours = describe_tree(merged)
    theirs = describe_tree(unpack_with_umoci(tars, tmp_path / "umoci"))
    assert ours.keys() == theirs.keys()
    different = {path: (ours[path], theirs[path]) for path in ours if ours[path] != theirs[path]}
    # umoci leaves "now" as the time of a directory that a layer only adds to.
    assert {
        path for path, (one, two) in different.items() if without_time(one) != without_time(two)
    } == set()
    assert {path for path in different if not ours[path][0].startswith("d")} == set()  # type: ignore[attr-defined]


def without_time(row: tuple[object, ...]) -> tuple[object, ...]:
    return row[:3] + row[4:]


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
        activate_rootfs(plan_rootfs(lowers, str(tmp_path / "scratch"), str(root)))
        try:
            assert (root / "f0").read_bytes() == b"0"
            assert (root / "last").read_bytes() == b"%d" % (MAX_LAYERS - 1)
            assert sum(1 for _ in root.iterdir()) == MAX_LAYERS + 1
        finally:
            deactivate_rootfs(str(root))
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

    async def index(self, arguments: tuple[str, ...]) -> None:
        tar = Path(self.channel.workspace) / "layer-0.tar"
        checked = tar.read_bytes()
        tar.write_bytes(self.other)
        await super().index(arguments)
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
    request = PullRequest(
        reference=f"r.example/a@{image.digest}",
        ca_pem="",
        auth=b"",
        limits=PullLimits(tar_bytes=1 << 30, total_seconds=60),
        encryption=ImageEncryption.ALLOWED,
    )
    (tmp_path / "refused").mkdir()
    cheat = Cheat(tmp_path / "refused", image, [tar], other)
    with pytest.raises(CcinitError) as refused:
        drive(pull_image(request, str(tmp_path / "refused"), cheat))
    assert refused.value.reason in {"pull.tree", "tree.kind"}
    assert not (tmp_path / "refused" / "layer-0").is_mount()
    with image_of((tar,), tmp_path / "taken") as taken:
        assert taken.manifest == parse_digest(image.digest)
        assert json.loads(image.manifest)["schemaVersion"] == 2
