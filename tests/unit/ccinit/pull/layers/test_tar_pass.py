"""Whole archives: the corpus of attacks by name, and what a good one gives."""

import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.pull.layers.listing import HOLDS_WHITEOUTS, OPAQUE, Attributes
from ccinit.pull.layers.tar_pass import LayerPass
from ccinit.pull.layers.tree import MergedDirectory, TreeLimits, empty_merged_root
from ccinit.pull.messages.layers import PassedLayer
from tests.fakes.images.passed_layers import pass_layer
from tests.fakes.images.tars import END, Entry, encode, header, long_name, make_tar, record
from tests.unit.ccinit.pull.layers.expected_listing import ExpectedListing

TIME = 1_700_000_000
DIRECTORY = Attributes(0o755, 0, 0, TIME)
IMPLIED = Attributes(0o755, 0, 0, 0)
FILE = Attributes(0o644, 0, 0, TIME)
SMALL = TreeLimits(entries=20, directory_entries=10, depth=5, xattr_bytes=64)


@contextmanager
def opened(path: Path, data: bytes) -> Iterator[int]:
    path.write_bytes(data)
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def run_pass(directory: Path, data: bytes, below: MergedDirectory | None = None) -> PassedLayer:
    with opened(directory / "layer.tar", data) as fd:
        return pass_layer(fd, below or empty_merged_root(), SMALL)


def run_in_pieces(directory: Path, data: bytes, piece_bytes: int) -> PassedLayer:
    with opened(directory / "pieces.tar", data) as fd:
        layer = LayerPass(empty_merged_root(), SMALL)
        for start in range(0, len(data), piece_bytes):
            layer.feed(memoryview(data)[start : start + piece_bytes])
        return layer.finish(fd)


def test_pass_lists_what_the_archive_makes(tmp_path: Path) -> None:
    data = make_tar(
        Entry(".", None, mode=0o711),
        Entry("dir", None, owner=(1, 2)),
        Entry("dir/file", b"x" * 600),
        Entry("dir/empty"),
        Entry("link", kind=b"2", link="dir/../../file", mode=0o777),
        Entry("again", kind=b"1", link="dir/file"),
    )
    listing = ExpectedListing()
    listing.directory(b"", Attributes(0o711, 0, 0, TIME))
    listing.file(b"again", FILE, 600, 3 * 512, b"again")
    listing.directory(b"dir", Attributes(0o755, 1, 2, TIME))
    listing.file(b"dir/empty", FILE, 0, 0, b"dir/empty")
    listing.file(b"dir/file", FILE, 600, 3 * 512, b"again")
    listing.symlink(b"link", Attributes(0o777, 0, 0, TIME), b"dir/../../file", b"link")
    passed = run_pass(tmp_path, data)
    assert passed == PassedLayer(
        listing=listing.digests(), records=6, file_bytes=600, tar_bytes=(6 + 2 + 2) * 512
    )


def test_pass_turns_whiteouts_into_what_overlayfs_reads(tmp_path: Path) -> None:
    data = make_tar(
        Entry("dir", None),
        Entry("dir/.wh.gone"),
        Entry("new/.wh..wh..opq"),
        Entry("new/file"),
    )
    listing = ExpectedListing()
    listing.directory(b"", IMPLIED)
    listing.directory(b"dir", Attributes(0o755, 0, 0, TIME, (HOLDS_WHITEOUTS,)))
    listing.whiteout(b"dir/gone")
    listing.directory(b"new", Attributes(0o755, 0, 0, 0, (OPAQUE,)))
    listing.file(b"new/file", FILE, 0, 0, b"new/file")
    assert run_pass(tmp_path, data).listing == listing.digests()


def test_pass_completes_the_archive_behind_its_last_entry(tmp_path: Path) -> None:
    entries = encode(Entry("a/b/file", b"x"))
    run_pass(tmp_path, entries + END + bytes(8192))
    completed = (tmp_path / "layer.tar").read_bytes()
    expected = make_tar(
        *(Entry(path, None, mtime=0) for path in ("./", "a/", "a/b/")),
    )
    assert completed == entries + expected


def test_completing_a_tar_takes_little_memory(tmp_path: Path) -> None:
    paths = ("/".join((f"{n}", *("a" * 18 for _ in range(200)), "file")) for n in range(20))
    pax = [Entry("x", pax=(("path", path.encode()),)) for path in paths]
    with opened(tmp_path / "layer.tar", make_tar(*pax)) as fd:
        layer = LayerPass(empty_merged_root(), TreeLimits())
        layer.feed(memoryview((tmp_path / "layer.tar").read_bytes()))
        tracemalloc.start()
        try:
            layer.finish(fd)
            _now, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        added_bytes = os.fstat(fd).st_size
    assert added_bytes > 10 << 20
    assert peak_bytes < 6 << 20


@pytest.mark.parametrize("end", [b"", bytes(512), END, bytes(10240)])
def test_archive_may_end_in_any_number_of_zeros(tmp_path: Path, end: bytes) -> None:
    entries = Entry("file", b"x")
    expected = run_pass(tmp_path, make_tar(entries))
    assert run_pass(tmp_path, make_tar(entries, end=end)) == expected
    assert run_pass(tmp_path, end).records == 1


@pytest.mark.parametrize(("kind", "reason"), [(b"x", ""), (b"g", ""), (b"L", "tar.long_name")])
def test_extension_without_a_payload_is_read_over(tmp_path: Path, kind: bytes, reason: str) -> None:
    tar = make_tar(Entry("file", b"x", before=header("empty", kind)))
    if reason:
        with pytest.raises(CcinitError) as refused:
            run_pass(tmp_path, tar)
        assert refused.value.reason == reason
        return
    assert run_pass(tmp_path, tar).records == run_pass(tmp_path, make_tar(Entry("file"))).records


def test_directory_that_is_not_described_looks_as_below(tmp_path: Path) -> None:
    below = empty_merged_root()
    first = (Entry(".", None, mode=0o700), Entry("tmp", None, mode=0o1777), Entry("tmp/x/y"))
    run_pass(tmp_path, make_tar(*first), below)
    listing = ExpectedListing()
    listing.directory(b"", Attributes(0o700, 0, 0, TIME))
    listing.directory(b"tmp", Attributes(0o1777, 0, 0, TIME))
    listing.file(b"tmp/new", FILE, 0, 0, b"tmp/new")
    assert run_pass(tmp_path, make_tar(Entry("tmp/new")), below).listing == listing.digests()


@pytest.mark.parametrize(
    "between", [Entry("tmp"), Entry(".wh.tmp"), Entry("tmp", kind=b"2", link="/var")]
)
def test_directory_that_a_layer_has_removed_has_nothing_to_say(
    tmp_path: Path, between: Entry
) -> None:
    below = empty_merged_root()
    run_pass(tmp_path, make_tar(Entry("tmp", None, mode=0o1777)), below)
    run_pass(tmp_path, make_tar(between), below)
    third = run_pass(tmp_path, make_tar(Entry("tmp/new")), below)
    assert third.listing == run_pass(tmp_path, make_tar(Entry("tmp/new"))).listing


@pytest.mark.parametrize("first", [True, False])
def test_opaque_directory_inherits_nothing_below_it(tmp_path: Path, *, first: bool) -> None:
    below = empty_merged_root()
    run_pass(tmp_path, make_tar(Entry("a/b", None, mode=0o700)), below)
    entries = [Entry("a/b/c"), Entry("a/.wh..wh..opq")]
    passed = run_pass(
        tmp_path, make_tar(*sorted(entries, key=lambda e: (e.path != "a/b/c") == first)), below
    )
    alone = run_pass(tmp_path, make_tar(*entries))
    assert passed.listing == alone.listing
    assert below.children[b"a"].children[b"b"].attributes.mode == 0o755


def test_r68_repeated_path_ends_as_its_last_entry(tmp_path: Path) -> None:
    """R68: a file, a directory with content, a file; and case or Unicode form are other names."""
    repeated = run_pass(
        tmp_path,
        make_tar(
            Entry("a", b"x"),
            Entry("a", None),
            Entry("a/b"),
            Entry("a", b"yy"),
            Entry("A"),
            Entry("é"),
            Entry("e\u0301"),
            Entry("d", None, mode=0o700),
            Entry("d/x"),
            Entry("d", None),
        ),
    )
    listing = ExpectedListing()
    listing.directory(b"", IMPLIED)
    listing.file(b"A", FILE, 0, 0, b"A")
    listing.file(b"a", FILE, 2, 5 * 512, b"a")
    listing.directory(b"d", DIRECTORY)
    listing.file(b"d/x", FILE, 0, 0, b"d/x")
    listing.file("e\u0301".encode(), FILE, 0, 0, "e\u0301".encode())
    listing.file("é".encode(), FILE, 0, 0, "é".encode())
    assert repeated.listing == listing.digests()


def test_allowed_xattrs_are_listed(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    pax = (("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.a", b"1"))
    attributes = Attributes(
        0o644, 0, 0, TIME, ((b"security.capability", capability), (b"user.a", b"1"))
    )
    listing = ExpectedListing()
    listing.directory(b"", IMPLIED)
    passed = run_pass(tmp_path, make_tar(Entry("ping", b"x", pax=pax)))
    payload = sum(len(record(key.encode(), value)) for key, value in pax)
    assert payload <= 512
    listing.file(b"ping", attributes, 1, 3 * 512, b"ping")
    assert passed.listing == listing.digests()


DEVICE = {329: b"0000000\0", 337: b"0000000\0"}
GOOD = make_tar(Entry("dir", None), Entry("dir/file", b"x"), Entry("dir/.wh.old"))


def xattr(name: str) -> bytes:
    return make_tar(Entry("a", pax=((f"SCHILY.xattr.{name}", b"y"),)))


ATTACKS: dict[str, tuple[bytes, str]] = {
    # R63
    "file through a symlink": (
        make_tar(Entry("a", kind=b"2", link="/etc"), Entry("a/passwd")),
        "tar.parent",
    ),
    "file through a symlink in place of its directory": (
        make_tar(
            *(Entry("d", None), Entry("d/e", None), Entry("d/e/one")),
            *(Entry("d/e", kind=b"2", link="/etc"), Entry("d/e/passwd")),
        ),
        "tar.parent",
    ),
    "file through a symlink in place of the directory above": (
        make_tar(
            *(Entry("d", None), Entry("d/e", None), Entry("d/e/one")),
            *(Entry("d", kind=b"2", link="/etc"), Entry("d/e/passwd")),
        ),
        "tar.parent",
    ),
    "file through a file": (make_tar(Entry("a"), Entry("a/b")), "tar.parent"),
    "hard link through a symlink": (
        make_tar(Entry("e", kind=b"2", link="/"), Entry("h", kind=b"1", link="e/passwd")),
        "tar.hardlink_missing",
    ),
    "hard link to a later entry": (
        make_tar(Entry("h", kind=b"1", link="f"), Entry("f")),
        "tar.hardlink_missing",
    ),
    "hard link to itself": (
        make_tar(Entry("h", b"x"), Entry("h", kind=b"1", link="h")),
        "tar.hardlink_missing",
    ),
    "hard link into what it replaces": (
        make_tar(Entry("d/f", b"x"), Entry("d", kind=b"1", link="d/f")),
        "tar.hardlink_missing",
    ),
    "hard link to a directory": (
        make_tar(Entry("d", None), Entry("h", kind=b"1", link="d")),
        "tar.hardlink_directory",
    ),
    "hard link to the root": (make_tar(Entry("h", kind=b"1", link=".")), "tar.hardlink_missing"),
    "hard link to a whiteout": (
        make_tar(Entry(".wh.w"), Entry("h", kind=b"1", link="w")),
        "tar.hardlink_missing",
    ),
    "root as a symlink": (make_tar(Entry(".", kind=b"2", link="/")), "tar.root_type"),
    "root as a file": (make_tar(Entry(".")), "tar.root_type"),
    # R65
    "character device": (make_tar(Entry("a", kind=b"3", fields=DEVICE)), "tar.device"),
    "block device": (make_tar(Entry("a", kind=b"4", fields=DEVICE)), "tar.device"),
    "fifo": (make_tar(Entry("a", kind=b"6")), "tar.fifo"),
    "trusted xattr": (xattr("trusted.overlay.redirect"), "tar.xattr"),
    "trusted opaque": (xattr("trusted.overlay.opaque"), "tar.xattr"),
    "user overlay opaque": (xattr("user.overlay.opaque"), "tar.xattr"),
    "user overlay redirect": (xattr("user.overlay.redirect"), "tar.xattr"),
    "user overlay metacopy": (xattr("user.overlay.metacopy"), "tar.xattr"),
    "user overlay whiteout": (xattr("user.overlay.whiteout"), "tar.xattr"),
    "user overlay origin's kin": (xattr("user.overlay.origins"), "tar.xattr"),
    "trusted origin": (xattr("trusted.overlay.origin"), "tar.xattr"),
    "selinux xattr": (xattr("security.selinux"), "tar.xattr"),
    "acl": (xattr("system.posix_acl_access"), "tar.xattr"),
    "nameless xattr": (xattr("user."), "tar.xattr"),
    "xattr of a symlink": (
        make_tar(Entry("a", kind=b"2", link="b", pax=(("SCHILY.xattr.user.a", b"y"),))),
        "tar.xattr",
    ),
    "xattrs beyond the cap": (
        make_tar(Entry("a", pax=(("SCHILY.xattr.user.a", b"y" * 70),))),
        "tar.xattr",
    ),
    "directory described twice with xattrs": (
        make_tar(Entry("a", None, pax=(("SCHILY.xattr.user.a", b"y"),)), Entry("a", None)),
        "tar.duplicate_xattr",
    ),
    # R66
    "bare whiteout": (make_tar(Entry(".wh.")), "tar.whiteout_name"),
    "whiteout of the parent": (make_tar(Entry("d/.wh...")), "tar.whiteout_name"),
    "whiteout of itself": (make_tar(Entry("d/.wh..")), "tar.whiteout_name"),
    "aufs metadata": (make_tar(Entry(".wh..wh.plnk")), "tar.whiteout_name"),
    "whiteout as a folder": (make_tar(Entry(".wh.a/b")), "tar.whiteout_name"),
    "whiteout after its file": (make_tar(Entry("a"), Entry(".wh.a")), "tar.whiteout_own"),
    "whiteout before its file": (make_tar(Entry(".wh.a"), Entry("a")), "tar.whiteout_own"),
    "whiteout before its folder": (make_tar(Entry(".wh.a"), Entry("a/b")), "tar.whiteout_own"),
    "whiteout with content": (make_tar(Entry(".wh.a", b"x")), "tar.whiteout_type"),
    "whiteout directory": (make_tar(Entry(".wh.a", None)), "tar.whiteout_type"),
    "whiteout hard link": (
        make_tar(Entry("x"), Entry(".wh.a", kind=b"1", link="x")),
        "tar.whiteout_type",
    ),
    "opaque symlink": (make_tar(Entry("d/.wh..wh..opq", kind=b"2", link="x")), "tar.whiteout_type"),
    "opaque root": (make_tar(Entry(".wh..wh..opq")), "tar.opaque_root"),
    "overlay's own whiteout": (make_tar(Entry("a", kind=b"3", fields=DEVICE)), "tar.device"),
    # R67
    "too many entries": (make_tar(*(Entry(f"d{n % 7}/{n}") for n in range(21))), "tar.entries"),
    "too many implied directories": (
        make_tar(*(Entry(f"{n}/a/b/c/file") for n in range(5))),
        "tar.entries",
    ),
    "too many names": (make_tar(*(Entry(f"{n}") for n in range(11))), "tar.directory_entries"),
    "too deep": (make_tar(Entry("/".join("abcdef"))), "tar.depth"),
    "size beyond the archive": (make_tar(Entry("a", size=4 << 30)), "tar.truncated"),
    "8 EiB": (
        make_tar(Entry("a", fields={124: b"\x80" + (8 << 60).to_bytes(11, "big")})),
        "tar.size",
    ),
    "huge extended header": (header("x", b"x", size=2 << 20) + END, "tar.extension"),
    "huge long name": (header("x", b"L", size=5000) + END, "tar.extension"),
    # the archive as a whole
    "old format": (make_tar(Entry("a", fields={257: bytes(8)})), "tar.v7"),
    "entry without a type": (make_tar(Entry("a", kind=b"\0")), "tar.v7"),
    "second archive": (GOOD + GOOD, "tar.trailing"),
    "junk behind the end": (GOOD + b"x", "tar.trailing"),
    "entry after one zero block": (
        make_tar(Entry("a"), end=b"") + bytes(512) + make_tar(Entry("b")),
        "tar.trailing",
    ),
    "cut header": (encode(Entry("a"))[:100], "tar.truncated"),
    "cut content": (encode(Entry("a", b"x" * 600))[:1200], "tar.truncated"),
    "extended header alone": (long_name(b"L", b"a\0"), "tar.truncated"),
    "extended header cut": (header("x", b"x", size=600) + bytes(100), "tar.truncated"),
}


@pytest.mark.parametrize("piece_bytes", [1, 7, 511, 512, 513, 4096])
def test_archive_in_pieces_is_the_same(tmp_path: Path, piece_bytes: int) -> None:
    pax = (("SCHILY.xattr.user.a", b"1"),)
    data = make_tar(
        Entry("dir", None), Entry("dir/a", b"x" * 1300, pax=pax), Entry("implied/b", b"y")
    )
    assert run_in_pieces(tmp_path, data, piece_bytes) == run_pass(tmp_path, data)
    assert (tmp_path / "pieces.tar").read_bytes() == (tmp_path / "layer.tar").read_bytes()


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_in_pieces_is_refused_alike(tmp_path: Path, name: str) -> None:
    data, reason = ATTACKS[name]
    for piece_bytes in (100, 512, 700):
        with pytest.raises(CcinitError) as refused:
            run_in_pieces(tmp_path, data, piece_bytes)
        assert refused.value.reason == reason


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_by_an_archive_is_refused(tmp_path: Path, name: str) -> None:
    data, reason = ATTACKS[name]
    with pytest.raises(CcinitError) as refused:
        run_pass(tmp_path, data)
    assert refused.value.reason == reason
    assert run_pass(tmp_path, GOOD).records == 4
