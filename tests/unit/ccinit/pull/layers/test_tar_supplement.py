from ccinit.formats.oci.tar import (
    BLOCK_BYTES,
    EXTENSION_TYPES,
    HeaderGroup,
    TarEntry,
    TarKind,
    padded,
    parse_header,
)
from ccinit.pull.layers.tar_supplement import encode_entry


def entry(path: bytes, **changes: object) -> TarEntry:
    values: dict[str, object] = {"mode": 0o1777, "uid": 3, "gid": 4, "size": 0, "mtime": 5}
    return TarEntry(path=path, kind=TarKind.DIRECTORY, **{**values, **changes})  # type: ignore[arg-type]


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
    data = encode_entry(entry(b"a/b"))
    assert len(data) == BLOCK_BYTES
    assert read_back(data) == entry(b"a/b")


def test_root_is_written_as_a_dot() -> None:
    assert read_back(encode_entry(entry(b""))) == entry(b"")


def test_what_ustar_cannot_hold_is_read_back_the_same() -> None:
    big = entry(
        b"/".join([b"folder"] * 99),
        uid=3_000_000,
        gid=4_294_967_294,
        mtime=9 << 33,
        xattrs=((b"user.a", b"=\n\0"), (b"user.b", b"x" * 99)),
    )
    assert read_back(encode_entry(big)) == big


def test_name_around_the_field_width_is_read_back_the_same() -> None:
    for length in range(97, 103):
        directory = entry(b"x" * length)
        assert read_back(encode_entry(directory)) == directory
