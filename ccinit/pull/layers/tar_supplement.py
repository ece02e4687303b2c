"""Entries that complete a layer's tar before it is indexed: directories.

A layer may hold `a/b/file` without `a/` or `a/b/`. The attributes of such a directory depend on the
layers below, which mkfs.erofs does not know: it copies the parent's owner, and makes the root 0777.
So the pass over the tar determines the attributes and writes them as entries over the
end-of-archive blocks of our copy, whose digest was checked before. This module only encodes
(POSIX.1-2017 pax, ustar), including empty files for `outline`; `tar_pass` determines which
directories are missing.
"""

from collections.abc import Iterable

from ccinit.formats.oci.tar_header import BLOCK_BYTES, MAX_OCTAL_ID, MAX_OCTAL_SIZE, padded
from ccinit.formats.oci.tar_pax import XATTR_PREFIX
from ccinit.pull.layers.listing import Attributes


def encode_directory(path: bytes, attributes: Attributes) -> bytes:
    """Encode a directory; `path` is relative, the root's is empty."""
    return _encode(path + b"/" if path else b"./", b"5", attributes)


def encode_empty_file(path: bytes, attributes: Attributes) -> bytes:
    """Encode a file without content."""
    return _encode(path, b"0", attributes)


def _encode(path: bytes, type_flag: bytes, attributes: Attributes) -> bytes:
    """Encode an entry, with an extended header for values that do not fit into ustar."""
    records = [(XATTR_PREFIX + name, value) for name, value in attributes.xattrs]
    if len(path) > 100:
        records.append((b"path", path))
    fields = {b"uid": attributes.uid, b"gid": attributes.gid, b"mtime": attributes.mtime}
    for key, value in fields.items():
        if value > (MAX_OCTAL_SIZE if key == b"mtime" else MAX_OCTAL_ID):
            records.append((key, b"%d" % value))
            fields[key] = 0
    header = _encode_header(
        path[:100],
        type_flag,
        attributes.mode,
        fields[b"uid"],
        fields[b"gid"],
        0,
        fields[b"mtime"],
    )
    if not records:
        return header
    payload = _encode_pax(records)
    extension = _encode_header(b"pax", b"x", 0o644, 0, 0, len(payload), 0)
    return extension + payload + bytes(padded(len(payload)) - len(payload)) + header


def _encode_pax(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    encoded = []
    for key, value in records:
        body = b" " + key + b"=" + value + b"\n"
        length = len(body) + 1
        while length != len(body) + len(str(length)):
            length = len(body) + len(str(length))
        encoded.append(b"%d" % length + body)
    return b"".join(encoded)


def _encode_header(
    name: bytes, type_flag: bytes, mode: int, uid: int, gid: int, size: int, mtime: int
) -> bytes:
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime),
            b" " * 8,
            type_flag.ljust(101, b"\0"),
            b"ustar\x0000",
        )
    ).ljust(BLOCK_BYTES, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
