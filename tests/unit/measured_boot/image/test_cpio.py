"""`newc` archives are what the format says, byte for byte."""

import stat

import pytest

from measured_boot.image.cpio import (
    CpioEntry,
    character_device,
    directory,
    encode_cpio,
    regular_file,
    symbolic_link,
)
from tests.unit.measured_boot.newc_members import parse

TRAILER_NAME = b"TRAILER!!!\0"


def test_archive_of_nothing_is_the_trailer() -> None:
    archive = encode_cpio([])
    assert archive[110 : 110 + len(TRAILER_NAME)] == TRAILER_NAME
    assert len(archive) % 4 == 0


def test_archive_of_each_kind_keeps_mode_data_and_device() -> None:
    entries = [
        directory("dev"),
        character_device("dev/null", 1, 3, 0o666),
        regular_file("init", b"#!x\n", 0o755),
        symbolic_link("lib", "usr/lib"),
    ]
    members = parse(encode_cpio(entries))
    assert [name for name, _, _ in members] == ["dev", "dev/null", "init", "lib", "TRAILER!!!"]
    assert [oct(fields[1]) for _, fields, _ in members[:-1]] == [
        oct(stat.S_IFDIR | 0o755),
        oct(stat.S_IFCHR | 0o666),
        oct(stat.S_IFREG | 0o755),
        oct(stat.S_IFLNK | 0o777),
    ]
    assert members[1][1][9:11] == [1, 3]
    assert [data for _, _, data in members[2:4]] == [b"#!x\n", b"usr/lib"]


def test_archive_names_no_owner_and_no_time() -> None:
    for _, fields, _ in parse(encode_cpio([regular_file("a", b"1"), regular_file("b", b"2")])):
        uid, gid, mtime = fields[2], fields[3], fields[5]
        assert (uid, gid, mtime) == (0, 0, 0)


def test_archive_is_the_same_for_the_same_entries() -> None:
    entries = [directory("a"), regular_file("a/b", b"data")]
    assert encode_cpio(entries) == encode_cpio(list(entries))


@pytest.mark.parametrize("path", ["/init", "a/../b", "", "a//b", "TRAILER!!!", "ä"])
def test_entry_with_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="plain relative"):
        encode_cpio([CpioEntry(path=path, mode=stat.S_IFREG)])


def test_second_entry_of_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match="second entry"):
        encode_cpio([regular_file("a", b""), regular_file("a", b"")])


def test_entry_before_its_directory_is_refused() -> None:
    with pytest.raises(ValueError, match="before its directory"):
        encode_cpio([regular_file("a/b", b"")])
