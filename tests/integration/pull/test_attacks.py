"""Layers that try to get out of their tree, or to be read in two ways: each is refused whole.

Every refusal goes through the whole pull, mkfs.erofs included if it comes so far, and leaves
nothing mounted; the same harness takes the layer without the fault.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from tests.fakes.images.tars import END, Entry, encode, header, long_name, make_tar, pad, record
from tests.faults.plugin import FaultSeen
from tests.integration.pull.layer_oracle import image_of

Refuse = Callable[..., None]

ROOT = Entry(".", None)
GOOD = make_tar(ROOT, Entry("file", b"x"))
FIELD_SIZE, FIELD_MTIME, FIELD_UID = 124, 136, 108


def layer(*entries: Entry) -> bytes:
    return make_tar(ROOT, *entries)


def pax(**records: bytes) -> tuple[tuple[str, bytes], ...]:
    return tuple(records.items())


def device(name: str, kind: bytes, major: int, minor: int) -> Entry:
    numbers = {329: b"%07o\0" % major, 337: b"%07o\0" % minor}
    return Entry(name, kind=kind, fields=numbers)


def xattr(name: str, value: bytes = b"y") -> Entry:
    return Entry("file", b"x", pax=((f"SCHILY.xattr.{name}", value),))


@pytest.fixture
def refuse(fault_seen: FaultSeen) -> Refuse:
    def refuse(tar: bytes, reason: str, work: Path, below: bytes = GOOD) -> None:
        with pytest.raises(CcinitError) as refused, image_of((below, tar), work / "refused"):
            pass
        assert refused.value.reason == reason
        fault_seen.guest(reason)
        assert not any(path.is_mount() for path in (work / "refused").glob("layer-*"))
        with image_of((below, GOOD), work / "taken") as taken:
            assert (Path(taken.layers[1].mount_point) / "file").read_bytes() == b"x"

    return refuse


PATHS: dict[str, tuple[Entry, str]] = {
    "up": (Entry("../x"), "tar.path_dotdot"),
    "up from below": (Entry("a/../../x"), "tar.path_dotdot"),
    "up in a PAX record": (Entry("x", pax=pax(path=b"a/../../x")), "tar.path_dotdot"),
    "absolute": (Entry("/etc/passwd"), "tar.path_absolute"),
    "empty": (Entry(""), "tar.path_empty"),
    "an empty component": (Entry("a//b"), "tar.path_empty"),
    "a dot inside": (Entry("a/./b"), "tar.path_empty"),
    "NUL in a PAX record": (Entry("x", pax=pax(path=b"a\0b")), "tar.path_nul"),
    "beyond PATH_MAX": (Entry("x", pax=pax(path=b"a/" * 2100 + b"a")), "tar.path_length"),
    "a component beyond NAME_MAX": (Entry("x", pax=pax(path=b"a" * 256)), "tar.path_length"),
    "not UTF-8": (Entry(b"\xff"), "tar.path_utf8"),
    "a file with a slash": (Entry("a/", b"x", kind=b"0"), "tar.path_slash"),
    "GNU long name that climbs": (
        Entry("x", before=long_name(b"L", b"../x\0")),
        "tar.path_dotdot",
    ),
    "a hard link that climbs": (Entry("a", kind=b"1", link="../../etc/shadow"), "tar.path_dotdot"),
}


@pytest.mark.parametrize("name", PATHS)
def test_r62_path_that_is_not_plainly_inside_is_refused(
    refuse: Refuse, tmp_path: Path, name: str
) -> None:
    entry, reason = PATHS[name]
    refuse(layer(entry), reason, tmp_path)


LINK = Entry("l", kind=b"2", link="/etc", mode=0o777)
LINKS: dict[str, tuple[tuple[Entry, ...], str]] = {
    "a file through a link": ((LINK, Entry("l/passwd", b"x")), "tar.parent"),
    "a directory through a link": ((LINK, Entry("l/cron.d", None)), "tar.parent"),
    "a whiteout through a link": ((LINK, Entry("l/.wh.passwd")), "tar.parent"),
    "a hard link through a link": (
        (LINK, Entry("h", kind=b"1", link="l/passwd")),
        "tar.hardlink_missing",
    ),
    "a hard link to what comes later": (
        (Entry("h", kind=b"1", link="b"), Entry("b")),
        "tar.hardlink_missing",
    ),
    "a hard link to a directory": (
        (Entry("d", None), Entry("h", kind=b"1", link="d")),
        "tar.hardlink_directory",
    ),
    "a hard link to the layer below": (
        (Entry("h", kind=b"1", link="below"),),
        "tar.hardlink_missing",
    ),
    "a file below a file": ((Entry("f", b"x"), Entry("f/g", b"y")), "tar.parent"),
}


@pytest.mark.parametrize("name", LINKS)
def test_r63_link_that_leads_elsewhere_is_refused(
    refuse: Refuse, tmp_path: Path, name: str
) -> None:
    entries, reason = LINKS[name]
    refuse(layer(*entries), reason, tmp_path, below=layer(Entry("below", b"b")))


@pytest.mark.parametrize("kind", [b"0", b"2", b"1"])
def test_r63_root_that_is_no_directory_is_refused(
    refuse: Refuse, tmp_path: Path, kind: bytes
) -> None:
    """CVE-2021-29136: `.` as a symbolic link."""
    entry = Entry(".", kind=kind, link="" if kind == b"0" else "etc")
    refuse(make_tar(Entry("etc", b""), entry), "tar.root_type", tmp_path)


FIELDS: dict[str, tuple[bytes, str]] = {
    # CVE-2025-62518: a reader that trusts the header sees the smuggled entry.
    "sizes that differ": (
        layer(Entry("a", encode(Entry("smuggled", b"x")), size=0, pax=pax(size=b"1024"))),
        "tar.pax_size",
    ),
    "a PAX key twice": (
        layer(Entry("a", pax=(("path", b"one"), ("path", b"two")))),
        "tar.pax_duplicate",
    ),
    "a PAX record that lies about its length": (
        make_tar(Entry("a", before=header("pax", b"x", size=9) + pad(b"99 path=b"))),
        "tar.pax",
    ),
    "GNU long name and PAX path": (
        layer(
            Entry(
                "a",
                before=long_name(b"L", b"one\0")
                + header("pax", b"x", size=len(record(b"path", b"two")))
                + pad(record(b"path", b"two")),
            )
        ),
        "tar.long_name",
    ),
    "a size beyond all": (
        layer(Entry("a", fields={FIELD_SIZE: b"\x80" + b"\x7f" * 11})),
        "tar.size",
    ),
    "a negative size": (layer(Entry("a", fields={FIELD_SIZE: b"\xff" * 12})), "tar.size"),
    "a negative time": (layer(Entry("a", fields={FIELD_MTIME: b"\xff" * 12})), "tar.mtime"),
    "a negative time in PAX": (layer(Entry("a", pax=pax(mtime=b"-1"))), "tar.pax_mtime"),
    "an owner that means none": (
        layer(Entry("a", fields={FIELD_UID: b"\x80\0\0\0\xff\xff\xff\xff"})),
        "tar.uid",
    ),
    "GNU's sparse file": (layer(Entry("a", b"x", kind=b"S")), "tar.sparse"),
    "PAX's sparse file": (
        layer(Entry("a", b"x", pax=(("GNU.sparse.major", b"1"),))),
        "tar.sparse",
    ),
    "another archive behind the end": (GOOD + GOOD, "tar.trailing"),
    "an entry that is cut": (layer(Entry("a", b"x" * 600))[:-1500], "tar.truncated"),
    "an extension without its entry": (long_name(b"L", b"x\0") + END, "tar.truncated"),
    "a type that nobody knows": (layer(Entry("a", kind=b"Z")), "tar.type"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_r64_archive_that_can_be_read_in_two_ways_is_refused(
    refuse: Refuse, tmp_path: Path, name: str
) -> None:
    tar, reason = FIELDS[name]
    refuse(tar, reason, tmp_path)


SPECIAL: dict[str, tuple[Entry, str]] = {
    "memory": (device("mem", b"3", 1, 1), "tar.device"),
    "a disk": (device("vda", b"4", 254, 0), "tar.device"),
    "even the null device": (device("null", b"3", 1, 3), "tar.device"),
    "a fifo": (Entry("fifo", kind=b"6"), "tar.fifo"),
    "an overlay's mark": (xattr("trusted.overlay.redirect", b"/etc"), "tar.xattr"),
    "any trusted mark": (xattr("trusted.x"), "tar.xattr"),
    "a mark of unprivileged overlays": (xattr("user.overlay.opaque"), "tar.xattr"),
    "a label": (xattr("security.selinux", b"system_u"), "tar.xattr"),
    "an access list": (xattr("system.posix_acl_access"), "tar.xattr"),
    "a mark on a link": (
        Entry("l", kind=b"2", link="x", pax=(("SCHILY.xattr.user.x", b"y"),)),
        "tar.xattr",
    ),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_r65_special_file_or_mark_is_refused(refuse: Refuse, tmp_path: Path, name: str) -> None:
    entry, reason = SPECIAL[name]
    refuse(layer(entry), reason, tmp_path)


WHITEOUTS: dict[str, tuple[tuple[Entry, ...], str]] = {
    "of nothing": ((Entry(".wh."),), "tar.whiteout_name"),
    "of the directory itself": ((Entry("d/.wh.."),), "tar.whiteout_name"),
    "of the parent": ((Entry("d/.wh..."),), "tar.whiteout_name"),
    "of aufs's own": ((Entry(".wh..wh.plnk"),), "tar.whiteout_name"),
    "of everything": ((Entry(".wh..wh..opq"),), "tar.opaque_root"),
    "of its own layer, before": ((Entry(".wh.a"), Entry("a", b"x")), "tar.whiteout_own"),
    "of its own layer, after": ((Entry("a", b"x"), Entry(".wh.a")), "tar.whiteout_own"),
    "with content": ((Entry(".wh.a", b"x"),), "tar.whiteout_type"),
    "as a link": ((Entry(".wh.a", kind=b"2", link="b"),), "tar.whiteout_type"),
    "as a directory": ((Entry(".wh.a/b", b"x"),), "tar.whiteout_name"),
    "in overlayfs's form": ((device("a", b"3", 0, 0),), "tar.device"),
}


@pytest.mark.parametrize("name", WHITEOUTS)
def test_r66_whiteout_that_hides_no_lower_file_is_refused(
    refuse: Refuse, tmp_path: Path, name: str
) -> None:
    entries, reason = WHITEOUTS[name]
    refuse(layer(*entries), reason, tmp_path)


def test_r67_sizes_beyond_their_caps_are_refused(
    refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparse = Entry("a", fields={FIELD_SIZE: b"\x80\0\0\0\x7f" + b"\xff" * 7})
    deep = Entry("x", pax=pax(path=b"d/" * 256 + b"f"))
    many = [Entry(f"f{number}", kind=b"1", link="a") for number in range(70_000)]
    xattrs = tuple((f"SCHILY.xattr.user.{number}", b"v" * 1000) for number in range(20))
    for number, (entries, reason) in enumerate(
        (
            ((sparse,), "tar.size"),
            ((deep,), "tar.depth"),
            ((Entry("a"), *many), "tar.directory_entries"),
            ((Entry("a", pax=xattrs),), "tar.xattr"),
        )
    ):
        work = tmp_path / str(number)
        work.mkdir()
        refuse(layer(*entries), reason, work)
