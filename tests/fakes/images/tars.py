"""Tars for tests, header by header, so that a test can write what no tool would."""

from collections.abc import Mapping
from dataclasses import dataclass, field

END = bytes(1024)


@dataclass(frozen=True)
class Entry:
    """One entry; `content` None makes a directory, `kind` sets any other type flag.

    `fields` replaces the bytes of a header field by its offset, after all else but the checksum;
    `pax` writes an extended header before the entry, `before` raw blocks.
    """

    path: str | bytes
    content: bytes | None = b""
    kind: bytes = b""
    link: str | bytes = b""
    mode: int = 0
    owner: tuple[int, int] = (0, 0)
    mtime: int = 1_700_000_000
    pax: tuple[tuple[str, bytes], ...] = ()
    before: bytes = b""
    fields: Mapping[int, bytes] = field(default_factory=dict)
    size: int | None = None


def make_tar(*entries: Entry, end: bytes = END) -> bytes:
    """Return the archive."""
    return b"".join(encode(entry) for entry in entries) + end


def encode(entry: Entry) -> bytes:
    """Return an entry with all that stands before it."""
    content = entry.content or b""
    kind = entry.kind or (b"5" if entry.content is None else b"0")
    mode = entry.mode or (0o755 if entry.content is None else 0o644)
    size = len(content) if entry.size is None else entry.size
    pax = b"".join(record(key.encode(), value) for key, value in entry.pax)
    extension = header(b"pax", b"x", size=len(pax)) + pad(pax) if pax else b""
    block = header(entry.path, kind, mode, entry.owner, size, entry.mtime, entry.link, entry.fields)
    return entry.before + extension + block + pad(content)


def header(
    path: str | bytes,
    kind: bytes,
    mode: int = 0o644,
    owner: tuple[int, int] = (0, 0),
    size: int = 0,
    mtime: int = 0,
    link: str | bytes = b"",
    fields: Mapping[int, bytes] | None = None,
) -> bytes:
    """Return one ustar header block with its checksum."""
    block = bytearray(512)
    path = path.encode() if isinstance(path, str) else path
    link = link.encode() if isinstance(link, str) else link
    assert len(path) <= 100
    assert len(link) <= 100
    block[0 : len(path)] = path
    block[100:148] = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, *owner, size, mtime)
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    for offset, data in (fields or {}).items():
        block[offset : offset + len(data)] = data
    block[148:156] = b" " * 8
    if fields is None or 148 not in fields:
        block[148:156] = b"%06o\0 " % sum(block)
    else:
        block[148:156] = fields[148]
    return bytes(block)


def long_name(kind: bytes, text: bytes) -> bytes:
    """Return GNU's `L` or `K` extension; the NUL at its end is the caller's."""
    return header(b"././@LongLink", kind, size=len(text)) + pad(text)


def record(key: bytes, value: bytes) -> bytes:
    """Return one PAX record."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pad(data: bytes) -> bytes:
    """Fill up to whole blocks."""
    return data + bytes(-len(data) % 512)
