import pytest

from ccinit.errors import FormatError
from ccinit.formats.oci.tar_entry import EXTENSION_TYPES, HeaderGroup, TarEntry, TarKind
from ccinit.formats.oci.tar_header import BLOCK_BYTES, TarFormat, padded, parse_header
from tests.fakes.images.tars import Entry, encode, header, long_name, record


def read(data: bytes) -> TarEntry:
    """Read the one entry of `data`, as the pass over a tar does."""
    group = HeaderGroup()
    offset = 0
    while True:
        block = parse_header(data[offset : offset + BLOCK_BYTES])
        offset += BLOCK_BYTES
        if block.type_flag not in EXTENSION_TYPES:
            return group.entry(block, offset)
        group.extend(block, data[offset : offset + block.size])
        offset += padded(block.size)


def refusal(data: bytes) -> str:
    with pytest.raises(FormatError) as refused:
        read(data)
    return refused.value.reason


GOOD = Entry("a/b", b"content", owner=(7, 8))


def test_ustar_entry_is_read_whole() -> None:
    entry = read(encode(GOOD))
    assert entry == TarEntry(
        path=b"a/b",
        kind=TarKind.FILE,
        mode=0o644,
        uid=7,
        gid=8,
        size=7,
        mtime=1_700_000_000,
        offset=512,
    )


def test_prefix_stands_before_the_name() -> None:
    assert read(header("name", b"0", fields={345: b"some/folder"})).path == b"some/folder/name"


def test_prefix_of_slashes_alone_makes_the_name_absolute() -> None:
    assert refusal(header("name", b"0", fields={345: b"//"})) == "tar.path_absolute"


def test_headers_that_share_what_repeats_are_told_apart() -> None:
    owners = [(0, 0), (0, 1), (1, 0)]
    for uid, gid in owners * 2:
        entry = read(encode(Entry("a", b"", owner=(uid, gid))))
        assert (entry.uid, entry.gid) == (uid, gid)


def test_v7_header_is_read_and_marked() -> None:
    block = header("old", b"\0", fields={257: bytes(8)})
    assert parse_header(block).format is TarFormat.V7
    assert not read(block).is_indexable


def test_ustar_header_without_a_type_is_marked() -> None:
    assert not read(header("old", b"\0")).is_indexable


@pytest.mark.parametrize("path", [b"x" * 250, b"/".join([b"y" * 200] * 18)])
def test_gnu_long_name_replaces_the_name(path: bytes) -> None:
    data = long_name(b"L", path + b"\0") + header("short", b"0")
    assert read(data).path == path


def test_gnu_long_link_and_long_name_go_together() -> None:
    data = long_name(b"K", b"t" * 200 + b"\0") + long_name(b"L", b"n" * 200 + b"\0")
    entry = read(data + header("short", b"2", link="short"))
    assert (entry.path, entry.link) == (b"n" * 200, b"t" * 200)


def test_pax_records_replace_what_the_header_cannot_hold() -> None:
    entry = read(
        encode(
            Entry(
                "x",
                b"",
                mtime=1_700_000_000,
                pax=(
                    ("path", "naïve/päth".encode()),
                    ("uid", b"3000000"),
                    ("gid", b"4000000"),
                    ("mtime", b"1700000000.123456789"),
                    ("SCHILY.xattr.user.b", b"2\n\0="),
                    ("SCHILY.xattr.user.a", b""),
                    ("comment", b"x"),
                ),
            )
        )
    )
    assert entry.path == "naïve/päth".encode()
    assert (entry.uid, entry.gid, entry.mtime) == (3_000_000, 4_000_000, 1_700_000_000)
    assert entry.xattrs == ((b"user.a", b""), (b"user.b", b"2\n\0="))


def test_size_beyond_the_header_comes_from_pax_or_base_256() -> None:
    size = 9 << 30
    by_pax = header("pax", b"x", size=len(record(b"size", b"%d" % size)))
    by_pax += record(b"size", b"%d" % size).ljust(512, b"\0") + header("big", b"0")
    by_bits = header("big", b"0", fields={124: b"\x80" + size.to_bytes(11, "big")})
    assert read(by_pax).size == read(by_bits).size == size


@pytest.mark.parametrize("in_header", [0, 9, 10])
def test_pax_may_repeat_the_header_or_be_finer(in_header: int) -> None:
    pax = (("size", b"5"), ("uid", b"7"), ("mtime", b"9.5"))
    entry = read(encode(Entry("a", b"12345", owner=(7, 0), mtime=in_header, pax=pax)))
    assert (entry.size, entry.uid, entry.mtime) == (5, 7, 9)


def test_hard_link_target_takes_the_form_of_a_path() -> None:
    assert read(encode(Entry("a", kind=b"1", link="/usr/bin/x"))).link == b"usr/bin/x"
    assert read(encode(Entry("a", kind=b"1", link="./x"))).link == b"x"


def test_whole_st_mode_of_the_same_kind_is_taken() -> None:
    assert read(encode(Entry("a", mode=0o100755))).mode == 0o755


ATTACKS: dict[str, tuple[bytes, str]] = {
    # R62
    "dotdot": (encode(Entry("../a")), "tar.path_dotdot"),
    "dotdot inside": (encode(Entry("a/../../b")), "tar.path_dotdot"),
    "absolute": (encode(Entry("/etc/passwd")), "tar.path_absolute"),
    "empty name": (encode(Entry("")), "tar.path_empty"),
    "empty component": (encode(Entry("a//b")), "tar.path_empty"),
    "dot component": (encode(Entry("a/./b")), "tar.path_empty"),
    "not UTF-8": (encode(Entry(b"a\xff")), "tar.path_utf8"),
    "file with a slash": (encode(Entry("a/")), "tar.path_slash"),
    "NUL in a PAX path": (encode(Entry("a", pax=(("path", b"a\0b"),))), "tar.path_nul"),
    "empty PAX path": (encode(Entry("a", pax=(("path", b""),))), "tar.path_empty"),
    "path too long": (
        encode(Entry("a", pax=(("path", b"/".join([b"x" * 250] * 17)),))),
        "tar.path_length",
    ),
    "component too long": (
        encode(Entry("a", pax=(("path", b"x" * 256),))),
        "tar.path_length",
    ),
    "hard link by dotdot": (encode(Entry("a", kind=b"1", link="../b")), "tar.path_dotdot"),
    "hard link to nothing": (encode(Entry("a", kind=b"1")), "tar.path_empty"),
    "symlink to nothing": (encode(Entry("a", kind=b"2")), "tar.link"),
    "NUL in a symlink": (
        encode(Entry("a", kind=b"2", pax=(("linkpath", b"b\0c"),))),
        "tar.link",
    ),
    "symlink too long": (
        encode(Entry("a", kind=b"2", pax=(("linkpath", b"b" * 4096),))),
        "tar.link",
    ),
    # R64
    "PAX size is not the header's": (
        encode(Entry("a", b"12345", pax=(("size", b"4"),))),
        "tar.pax_size",
    ),
    "PAX size over an empty header size": (
        encode(Entry("a", b"", pax=(("size", b"512"),))),
        "tar.pax_size",
    ),
    "PAX size over an empty header size that no uid could hold": (
        encode(Entry("a", b"", pax=(("size", b"3000000"),))),
        "tar.pax_size",
    ),
    "PAX size beyond the header, which has another": (
        encode(Entry("a", b"12345", pax=(("size", b"9000000000"),))),
        "tar.pax_size",
    ),
    "PAX size of many digits": (
        encode(Entry("a", b"", pax=(("size", b"0" * 21),))),
        "tar.pax_size",
    ),
    "PAX uid with an underscore": (
        encode(Entry("a", pax=(("uid", b"0_0"),))),
        "tar.pax_uid",
    ),
    "PAX uid is not the header's": (
        encode(Entry("a", owner=(7, 7), pax=(("uid", b"0"),))),
        "tar.pax_uid",
    ),
    "PAX mtime is not the header's": (
        encode(Entry("a", mtime=5, pax=(("mtime", b"9"),))),
        "tar.pax_mtime",
    ),
    "fraction beyond nanoseconds": (
        encode(Entry("a", pax=(("mtime", b"1700000000.9999999999"),))),
        "tar.pax_mtime",
    ),
    "fraction of no digits": (
        encode(Entry("a", pax=(("mtime", b"1700000000.5e1"),))),
        "tar.pax_mtime",
    ),
    "negative PAX mtime": (encode(Entry("a", pax=(("mtime", b"-1"),))), "tar.pax_mtime"),
    "two PAX keys": (
        encode(Entry("a", pax=(("path", b"b"), ("path", b"c")))),
        "tar.pax_duplicate",
    ),
    "long name and PAX path": (
        encode(Entry("a", pax=(("path", b"b"),), before=long_name(b"L", b"c\0"))),
        "tar.long_name",
    ),
    "PAX path and long name": (
        header("pax", b"x", size=len(record(b"path", b"b")))
        + record(b"path", b"b").ljust(512, b"\0")
        + long_name(b"L", b"c\0")
        + header("a", b"0"),
        "tar.long_name",
    ),
    "two long names": (
        long_name(b"L", b"a\0") + long_name(b"L", b"b\0") + header("c", b"0"),
        "tar.long_name",
    ),
    "two extended headers": (
        header("pax", b"x", size=0) + header("pax", b"x", size=0) + header("c", b"0"),
        "tar.long_name",
    ),
    "long name without its NUL": (
        long_name(b"L", b"abc") + header("c", b"0"),
        "tar.long_name",
    ),
    "long link of no bytes, before a file that has none": (
        header("link", b"K", size=0) + header("c", b"0"),
        "tar.long_name",
    ),
    "long name with two NULs": (
        long_name(b"L", b"a\0b\0") + header("c", b"0"),
        "tar.long_name",
    ),
    "global size": (
        header("g", b"g", size=len(record(b"size", b"9")))
        + record(b"size", b"9").ljust(512, b"\0")
        + header("c", b"0"),
        "tar.pax_global",
    ),
    "base-256 size overflow": (
        header("a", b"0", fields={124: b"\x80" + b"\xff" * 11}),
        "tar.size",
    ),
    "base-256 negative": (header("a", b"0", fields={124: b"\xff" * 12}), "tar.size"),
    "base-256 negative uid": (
        header("a", b"0", fields={108: b"\xff" + (1).to_bytes(7, "big")}),
        "tar.uid",
    ),
    "base-256 mtime overflow": (
        header("a", b"0", fields={136: b"\x80" + b"\x7f" * 11}),
        "tar.mtime",
    ),
    "base-256 negative mtime": (header("a", b"0", fields={136: b"\xff" * 12}), "tar.mtime"),
    "octal negative mtime": (
        header("a", b"0", fields={136: b"-0000000001\0"}),
        "tar.mtime",
    ),
    "empty size": (header("a", b"0", fields={124: bytes(12)}), "tar.size"),
    "junk behind a size": (header("a", b"0", fields={124: b"0000000 123\0"}), "tar.size"),
    "uid that means unchanged": (
        header("a", b"0", fields={108: b"\x80" + (0xFFFFFFFF).to_bytes(7, "big")}),
        "tar.uid",
    ),
    "GNU sparse": (header("a", b"S"), "tar.sparse"),
    "PAX sparse": (
        encode(Entry("a", b"", pax=(("GNU.sparse.major", b"1"),))),
        "tar.sparse",
    ),
    "GNU header with a prefix": (
        header("a", b"0", fields={257: b"ustar  \0", 345: b"00000000000"}),
        "tar.gnu_prefix",
    ),
    # and what else two readers see differently
    "content of a directory": (header("a", b"5", size=512), "tar.size_type"),
    "content of a hard link": (header("a", b"1", size=512, link="b"), "tar.size_type"),
    "content of a symlink": (header("a", b"2", size=512, link="b"), "tar.size_type"),
    "unknown type": (header("a", b"Z"), "tar.type"),
    "contiguous file": (header("a", b"7"), "tar.type"),
    "volume label": (header("a", b"V"), "tar.type"),
    "mode of another kind": (header("a", b"0", mode=0o040755), "tar.mode"),
    "mode beyond its bits": (header("a", b"1", mode=0o1000644, link="b"), "tar.mode"),
    "unknown PAX key": (encode(Entry("a", pax=(("evil", b"1"),))), "tar.pax_key"),
    "libarchive xattr": (
        encode(Entry("a", pax=(("LIBARCHIVE.xattr.user.a", b"MQ=="),))),
        "tar.pax_key",
    ),
    "charset": (encode(Entry("a", pax=(("hdrcharset", b"BINARY"),))), "tar.pax_key"),
    "wrong checksum": (header("a", b"0", fields={148: b"0000000\0"}), "tar.checksum"),
    "unknown magic": (header("a", b"0", fields={257: b"ustaX\x0000"}), "tar.magic"),
    "bytes behind the fields": (header("a", b"0", fields={508: b"tar\0"}), "tar.padding"),
    "short block": (header("a", b"0")[:511], "tar.truncated"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_on_a_header_is_refused(name: str) -> None:
    data, reason = ATTACKS[name]
    assert refusal(data) == reason
    assert read(encode(GOOD)).path == b"a/b"
