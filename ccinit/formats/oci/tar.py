"""Tar headers: v7, ustar, GNU long names and base-256 numbers, PAX records (POSIX.1-2017 pax).

Files get smuggled past a check when two readers of one archive disagree. So wherever the formats
say something twice (size, name) and the values differ, or a reader is known to misparse, the
archive is refused; nothing is skipped. `pull.layers` decides which entries an image layer may have,
and what they mean together; the caller also reads the blocks.
"""

import struct
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache

from ccinit.annotations import NamedTuple
from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.oci.tar_path import MAX_PATH_BYTES, normal_path

BLOCK_BYTES = 512
ZERO_BLOCK = bytes(BLOCK_BYTES)
END_OF_ARCHIVE = 2 * ZERO_BLOCK

MAX_LONG_NAME_BYTES = MAX_PATH_BYTES + 1
MAX_PAX_BYTES = 1 << 20
MAX_SIZE_BYTES = 1 << 50
MAX_TIME_SECONDS = 1 << 40
MAX_ID = 0xFFFF_FFFE  # the next one means "leave unchanged" to chown(2)

MAX_OCTAL_SIZE = 0o77777777777
MAX_OCTAL_ID = 0o7777777
"""The largest numbers that a ustar header holds in its fields of 12 and 8 bytes."""

_KNOWN_FIELDS = 512
"""Cached: modes, owners and times repeat within an archive, and so does the end of a header."""

_FIELDS = struct.Struct("100s 24s 12s 12s 8s 1s 100s 255s")
"""Name; mode, uid and gid; size; mtime; checksum; type; link; magic and all behind it."""

_TYPE_BITS = 0o170000
XATTR_PREFIX = b"SCHILY.xattr."
_BLANKS = b" \0"

_SKIPPED_PAX_KEYS = frozenset(
    {b"atime", b"ctime", b"uname", b"gname", b"comment"}
    | {b"SCHILY." + key for key in (b"dev", b"ino", b"nlink", b"filetype", b"fflags")}
    | {b"LIBARCHIVE." + key for key in (b"creationtime", b"symlinktype")}
)
"""Without a meaning for an image. Others are refused: mkfs.erofs misreads `LIBARCHIVE.xattr.*`."""

_NO_RECORDS: Mapping[bytes, bytes] = {}
_NUMBER_PAX_KEYS = frozenset({b"size", b"uid", b"gid", b"mtime"})
_TEXT_PAX_KEYS = frozenset({b"path", b"linkpath"})


class TarFormat(Enum):
    """Which of the header layouts a block has."""

    V7 = "v7"
    USTAR = "ustar"
    GNU = "gnu"


class TarKind(Enum):
    """What an entry makes."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    DIRECTORY = "directory"
    FIFO = "fifo"


_KINDS = {
    b"0": (TarKind.FILE, 0o100000),
    b"\0": (TarKind.FILE, 0o100000),
    b"1": (TarKind.HARD_LINK, 0o100000),
    b"2": (TarKind.SYMLINK, 0o120000),
    b"3": (TarKind.CHARACTER_DEVICE, 0o020000),
    b"4": (TarKind.BLOCK_DEVICE, 0o060000),
    b"5": (TarKind.DIRECTORY, 0o040000),
    b"6": (TarKind.FIFO, 0o010000),
}

EXTENSION_TYPES = frozenset({b"x", b"g", b"L", b"K"})
"""Types whose payload describes the entry that follows."""


class TarHeader(NamedTuple):
    """One header block, its fields read but not yet joined with extensions.

    Headers and entries are made for every file of an image; a tuple takes a third of the time of a
    `frozen` value.

    Attributes:
        name: with the ustar prefix before it.
        type_flag: one byte.
        size: bytes of payload, for an extension its own.
    """

    format: TarFormat
    type_flag: bytes
    name: bytes
    link: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int


class TarEntry(NamedTuple):
    """One entry, joined with the extensions before it.

    Attributes:
        path: relative, without `.`, `..` or empty components; empty for the archive's root.
        link: target of a symbolic link as written, or of a hard link in the form of `path`.
        mode: the twelve permission bits.
        size: bytes of content at `offset` in the archive; only a file has any.
        mtime: whole seconds since 1970.
        xattrs: (name, value) sorted by name.
        is_indexable: whether the header is one that mkfs.erofs reads the same way.
    """

    path: bytes
    kind: TarKind
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    offset: int = 0
    is_indexable: bool = True


def padded(size: int) -> int:
    """Round a payload's size in bytes up to whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def parse_header(block: bytes) -> TarHeader:
    """Parse one header block of 512 bytes that is not all zero.

    Raises:
        FormatError: `tar.…`.
    """
    if len(block) != BLOCK_BYTES:
        raise FormatError("tar.truncated", "a header block is cut short")
    name, owner, size, mtime, checksum, type_flag, link, rest = _FIELDS.unpack(block)
    # Zeros add nothing to the sum, and sums of fields that repeat are cached.
    varying = (name + size + mtime + type_flag + link).translate(None, b"\0")
    found = sum(varying) + _sum(owner) + _sum(rest) + 8 * ord(" ")  # its own field counts as blanks
    if found != (stated := _number(checksum, "tar.checksum")):
        # Sums over signed bytes, as in archives of the 1980s, are not accepted either.
        raise FormatError("tar.checksum", f"header sums to {found}, states {stated}")
    tar_format, prefix = _parse_rest(rest)
    return TarHeader(
        tar_format,
        type_flag,
        prefix + _until_nul(name),
        _until_nul(link),
        *_parse_owner(owner),
        _number(size, "tar.size"),
        _number(mtime, "tar.mtime"),
    )


@lru_cache(maxsize=_KNOWN_FIELDS)
def _sum(field: bytes) -> int:
    return sum(field)


@lru_cache(maxsize=_KNOWN_FIELDS)
def _parse_owner(field: bytes) -> tuple[int, int, int]:
    """Return mode, uid and gid."""
    return (
        _number(field[:8], "tar.mode"),
        _number(field[8:16], "tar.uid"),
        _number(field[16:], "tar.gid"),
    )


@lru_cache(maxsize=_KNOWN_FIELDS)
def _parse_rest(field: bytes) -> tuple[TarFormat, bytes]:
    """Return the format, and the prefix of the name."""
    if any(field[243:]):
        raise FormatError("tar.padding", "bytes behind the last header field")
    tar_format, prefix = _format(field[:8]), field[88:243]
    if tar_format is TarFormat.USTAR:
        prefix = _until_nul(prefix)
        return tar_format, prefix.rstrip(b"/") + b"/" if prefix else b""
    if any(prefix):
        # Old GNU puts times there; some readers take them for a path prefix.
        raise FormatError("tar.gnu_prefix", "bytes in a field that only ustar has")
    return tar_format, b""


def _format(magic: bytes) -> TarFormat:
    if magic == b"ustar\x0000":
        return TarFormat.USTAR
    if magic == b"ustar  \0":
        return TarFormat.GNU
    if not any(magic):
        return TarFormat.V7
    raise FormatError("tar.magic", f"unknown magic {magic!r}")


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


@lru_cache(maxsize=_KNOWN_FIELDS)
def _number(field: bytes, reason: str) -> int:
    """An octal text, or GNU's base-256 form; never negative, never empty."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise FormatError(reason, "negative or oversized base-256 number")
        return int.from_bytes(field[1:], "big")
    digits = field.lstrip(b" ").rstrip(_BLANKS)
    if not digits or digits.strip(b"01234567"):
        raise FormatError(reason, f"{field!r} is not an octal number")
    return int(digits, 8)


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
    known = key in _SKIPPED_PAX_KEYS or key in _NUMBER_PAX_KEYS or key in _TEXT_PAX_KEYS
    if not known and not key.startswith(XATTR_PREFIX):
        raise FormatError("tar.pax_key", f"unknown keyword {key[:80]!r}")


class HeaderGroup:
    """The extension headers before one entry.

    The caller gives headers of `EXTENSION_TYPES` with their payload to `extend` and the next one
    after them to `entry`, which starts a new group.
    """

    def __init__(self) -> None:
        self._pax: Mapping[bytes, bytes] | None = None
        self._long: dict[bytes, bytes] = {}

    @property
    def is_open(self) -> bool:
        """Whether extensions wait for their entry."""
        return self._pax is not None or bool(self._long)

    def extend(self, header: TarHeader, payload: bytes) -> None:
        """Take an extension; raises FormatError, `tar.…`."""
        if header.type_flag == b"g":
            # Readers differ on where a global record takes effect, so it may not change anything.
            if parse_pax(payload).keys() - {b"comment"}:
                raise FormatError("tar.pax_global", "a global header changes entries")
        elif header.type_flag == b"x":
            if self.is_open:
                raise FormatError("tar.long_name", "two extension headers for one entry")
            self._pax = parse_pax(payload)
        else:
            if self._pax is not None or header.type_flag in self._long:
                raise FormatError("tar.long_name", "two extension headers for one entry")
            name, end, rest = payload.partition(b"\0")
            if not end or rest:
                raise FormatError("tar.long_name", "a long name ends with its one NUL")
            self._long[header.type_flag] = name

    def entry(self, header: TarHeader, offset: int) -> TarEntry:
        """Join `header`, whose payload is at `offset`, with the extensions before it.

        Raises FormatError, `tar.…`.
        """
        pax, name, link = self._pax or _NO_RECORDS, header.name, header.link
        if self.is_open:
            name = self._long.get(b"L", pax.get(b"path", name))
            link = self._long.get(b"K", pax.get(b"linkpath", link))
            self._pax, self._long = None, {}
        kind = _kind(header.type_flag, header.mode)
        size = _pax_number(pax, b"size", header.size, MAX_SIZE_BYTES)
        if size and kind is not TarKind.FILE:
            raise FormatError("tar.size_type", f"a {kind.value} with content")
        return TarEntry(
            _path(name, is_directory=kind is TarKind.DIRECTORY),
            kind,
            header.mode & 0o7777,
            _pax_number(pax, b"uid", header.uid, MAX_ID),
            _pax_number(pax, b"gid", header.gid, MAX_ID),
            size,
            _mtime(pax, header.mtime),
            _link(link, kind),
            _xattrs(pax) if pax else (),
            offset,
            header.format is not TarFormat.V7 and header.type_flag != b"\0",
        )


@lru_cache(maxsize=_KNOWN_FIELDS)
def _kind(type_flag: bytes, mode: int) -> TarKind:
    if type_flag == b"S":
        raise FormatError("tar.sparse", "sparse files are not supported")
    if type_flag not in _KINDS:
        raise FormatError("tar.type", f"unknown entry type {type_flag!r}")
    kind, type_bits = _KINDS[type_flag]
    # Some writers put st_mode there whole; then it has to be the same kind of thing.
    stated = mode & ~0o7777
    if stated not in (0, type_bits) and kind is not TarKind.HARD_LINK:
        raise FormatError("tar.mode", f"mode {mode:o} on a {kind.value}")
    if stated & ~_TYPE_BITS:
        raise FormatError("tar.mode", f"mode {mode:o}")
    return kind


def _pax_number(pax: Mapping[bytes, bytes], key: bytes, in_header: int, limit: int) -> int:
    """A number that a PAX record may state; the header must agree or be unable to hold it."""
    value = in_header
    if (text := pax.get(key)) is not None:
        reason = f"tar.pax_{key.decode()}"
        value = _decimal(text, reason)
        fits = value <= (MAX_OCTAL_SIZE if key == b"size" else MAX_OCTAL_ID)
        if in_header != value and (fits or in_header != 0):
            raise FormatError(reason, f"header says {in_header}, extended header {value}")
    if value > limit:
        raise LimitExceededError(f"tar.{key.decode()}", f"expected at most {limit}, found {value}")
    return value


def _mtime(pax: Mapping[bytes, bytes], in_header: int) -> int:
    value = in_header
    if (text := pax.get(b"mtime")) is not None:
        seconds, _point, fraction = text.partition(b".")
        value = _decimal(seconds, "tar.pax_mtime")
        # More digits than nanoseconds have overflow in mkfs.erofs.
        if fraction and (not fraction.isdigit() or len(fraction) > 9):
            raise FormatError("tar.pax_mtime", f"{text[:40]!r} is not a time")
        if in_header not in (0, value, value + 1):  # rounded up by some writers
            raise FormatError("tar.pax_mtime", f"header says {in_header}, extended header {value}")
    if value > MAX_TIME_SECONDS:
        raise LimitExceededError("tar.mtime", f"expected at most {MAX_TIME_SECONDS}, found {value}")
    return value


def _decimal(text: bytes, reason: str) -> int:
    if not text.isdigit() or len(text) > 20:
        raise FormatError(reason, f"{text[:40]!r} is not a decimal number")
    return int(text)


def _path(name: bytes, *, is_directory: bool) -> bytes:
    if not is_directory and name.endswith(b"/"):
        raise FormatError("tar.path_slash", f"{name[-80:]!r} ends with / but is not a directory")
    return normal_path(name.rstrip(b"/") if name != b"/" else name)


def _link(link: bytes, kind: TarKind) -> bytes:
    if kind is TarKind.HARD_LINK:
        # Absolute targets occur in images that work everywhere else; they mean the archive's root.
        return normal_path(link.lstrip(b"/"))
    if kind is not TarKind.SYMLINK:
        return b""
    if not link or b"\0" in link or len(link) > MAX_PATH_BYTES:
        raise FormatError("tar.link", "a symbolic link's target is empty, too long, or has NUL")
    return link


def _xattrs(pax: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        sorted(
            (key[len(XATTR_PREFIX) :], value)
            for key, value in pax.items()
            if key.startswith(XATTR_PREFIX)
        )
    )
