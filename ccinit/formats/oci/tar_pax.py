"""Records of a PAX extended header (POSIX.1-2017 pax), by the keywords that an image may use."""

from collections.abc import Mapping

from ccinit.errors import FormatError

MAX_PAX_BYTES = 1 << 20
XATTR_PREFIX = b"SCHILY.xattr."

_SKIPPED_KEYS = frozenset(
    {b"atime", b"ctime", b"uname", b"gname", b"comment"}
    | {b"SCHILY." + key for key in (b"dev", b"ino", b"nlink", b"filetype", b"fflags")}
    | {b"LIBARCHIVE." + key for key in (b"creationtime", b"symlinktype")}
)
"""Without a meaning for an image. Others are refused: mkfs.erofs misreads `LIBARCHIVE.xattr.*`."""

_NUMBER_KEYS = frozenset({b"size", b"uid", b"gid", b"mtime"})
_TEXT_KEYS = frozenset({b"path", b"linkpath"})


def parse_pax(data: bytes) -> Mapping[bytes, bytes]:
    """Parse the records of one extended header (`x` or `g`).

    Raises:
        FormatError: `tar.pax` (malformed), `tar.pax_duplicate`, `tar.pax_key`, `tar.sparse`.
    """
    records: dict[bytes, bytes] = {}
    start = 0
    while start < len(data):
        blank = data.find(b" ", start, start + 8)
        length_text = data[start:blank] if blank > start else b""
        if not length_text.isdigit():
            raise FormatError("tar.pax", "a record does not start with its length")
        end = start + int(length_text)
        if end > len(data) or end <= blank + 1 or data[end - 1] != ord("\n"):
            raise FormatError("tar.pax", "a record does not end where it says")
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise FormatError("tar.pax", "a record has no keyword")
        if key in records:
            raise FormatError("tar.pax_duplicate", f"{key[:80]!r} occurs twice")
        _check_key(key)
        records[key] = value
        start = end
    return records


def _check_key(key: bytes) -> None:
    if key.startswith(b"GNU.sparse."):
        raise FormatError("tar.sparse", "sparse files are not supported")
    known = key in _SKIPPED_KEYS or key in _NUMBER_KEYS or key in _TEXT_KEYS
    if not known and not key.startswith(XATTR_PREFIX):
        raise FormatError("tar.pax_key", f"unknown keyword {key[:80]!r}")
