from ccinit.formats.oci.tar_entry import EXTENSION_TYPES, HeaderGroup, TarEntry, TarKind
from ccinit.formats.oci.tar_header import BLOCK_BYTES, padded, parse_header
from ccinit.pull.layers.listing import Attributes
from ccinit.pull.layers.tar_supplement import encode_directory, encode_empty_file

ATTRIBUTES = Attributes(mode=0o1777, uid=3, gid=4, mtime=5)


def entry(path: bytes, kind: TarKind, attributes: Attributes) -> TarEntry:
    return TarEntry(
        path=path,
        kind=kind,
        mode=attributes.mode,
        uid=attributes.uid,
        gid=attributes.gid,
        size=0,
        mtime=attributes.mtime,
        xattrs=attributes.xattrs,
    )


def is_read_back(path: bytes, attributes: Attributes = ATTRIBUTES) -> bool:
    """Whether a directory, and a file if it has a name, are read as what was written."""
    directory = read_back(encode_directory(path, attributes))
    file = read_back(encode_empty_file(path or b"x", attributes))
    return (directory, file) == (
        entry(path, TarKind.DIRECTORY, attributes),
        entry(path or b"x", TarKind.FILE, attributes),
    )


def read_back(data: bytes) -> TarEntry:
    group = HeaderGroup()
    offset = 0
    while True:
        header = parse_header(data[offset : offset + BLOCK_BYTES])
        offset += BLOCK_BYTES
        if header.type_flag not in EXTENSION_TYPES:
            assert offset == len(data)
            return group.entry(header, 0)
        group.extend(header, data[offset : offset + header.size])
        offset += padded(header.size)


def test_small_directory_takes_one_block() -> None:
    assert len(encode_directory(b"a/b", ATTRIBUTES)) == BLOCK_BYTES
    assert is_read_back(b"a/b")


def test_root_is_written_as_a_dot() -> None:
    assert is_read_back(b"")


def test_what_ustar_cannot_hold_is_read_back_the_same() -> None:
    big = Attributes(
        mode=0o1777,
        uid=3_000_000,
        gid=4_294_967_294,
        mtime=9 << 33,
        xattrs=((b"user.a", b"=\n\0"), (b"user.b", b"x" * 99)),
    )
    assert is_read_back(b"/".join([b"folder"] * 99), big)


def test_name_around_the_field_width_is_read_back_the_same() -> None:
    for length in range(97, 103):
        assert is_read_back(b"x" * length)
