"""Listings by digest: what the pass over a tar hashes is what the files hold, however it comes."""

from pathlib import Path

import pytest

from ccinit.formats.encoding.digest import sha256_digest
from ccinit.pull.layers.listing import Attributes
from ccinit.pull.layers.tar_pass import LayerPass
from ccinit.pull.layers.tree import TreeLimits, empty_merged_root
from ccinit.pull.messages.layer_form import LayerForm
from tests.fakes.images.tars import Entry, make_tar
from tests.unit.ccinit.pull.layers.expected_listing import ExpectedListing

FILE = Attributes(0o644, 0, 0, 1_700_000_000)
ROOT = Attributes(0o755, 0, 0, 0)
CONTENTS = {"a": b"1" * 600, "b": b"", "c": b"2" * 512, "d": b"3" * 1025}
TAR = make_tar(
    *(Entry(name, content) for name, content in CONTENTS.items()),
    Entry("e", b"old"),
    Entry("e", b"new"),
    Entry("f", kind=b"1", link="a"),
    Entry("g", b"4", pax=(("SCHILY.xattr.user.note", b"x" * 700),)),
)


def expected(**changes: bytes) -> str:
    listing = ExpectedListing()
    listing.directory(b"", ROOT)
    for name, content in {**CONTENTS, "e": b"new", **changes}.items():
        found = sha256_digest(content) if content else 0
        listing.file(name.encode(), FILE, len(content), found, name.encode())
    listing.file(b"f", FILE, 600, sha256_digest(changes.get("a", CONTENTS["a"])), b"a")
    note = Attributes(0o644, 0, 0, FILE.mtime, ((b"user.note", b"x" * 700),))
    listing.file(b"g", note, 1, sha256_digest(b"4"), b"g")
    return str(listing.digests())


def listed(data: bytes, directory: Path, piece_bytes: int) -> str:
    layer = LayerPass(empty_merged_root(), TreeLimits(), LayerForm.COMPRESSED)
    for start in range(0, len(data), piece_bytes):
        layer.feed(memoryview(data)[start : start + piece_bytes])
    with (directory / "tar").open("w+b") as file:
        return str(layer.finish(file.fileno()).listing)


@pytest.mark.parametrize("piece_bytes", [1, 7, 511, 512, 513, 1 << 20])
def test_content_is_listed_by_its_digest_in_pieces_of_any_length(
    tmp_path: Path, piece_bytes: int
) -> None:
    assert listed(TAR, tmp_path, piece_bytes) == expected()


@pytest.mark.parametrize("name", ["a", "c", "d", "e"])
def test_one_byte_of_one_file_is_another_listing(tmp_path: Path, name: str) -> None:
    content = {**CONTENTS, "e": b"new"}[name]
    changed = content[:-1] + b"?"
    place = TAR.rindex(content) + len(content) - 1
    assert listed(TAR[:place] + b"?" + TAR[place + 1 :], tmp_path, 4096) == expected(
        **{name: changed}
    )
    assert expected(**{name: changed}) != expected()


def test_archive_that_ends_within_a_file_is_refused_as_before(tmp_path: Path) -> None:
    layer = LayerPass(empty_merged_root(), TreeLimits(), LayerForm.COMPRESSED)
    layer.feed(memoryview(make_tar(Entry("a", b"x" * 5000)))[:3000])
    with pytest.raises(Exception, match=r"tar\.truncated"), (tmp_path / "t").open("w+b") as file:
        layer.finish(file.fileno())
