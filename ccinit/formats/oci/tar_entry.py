"""Entries of a tar: a header, joined with the extension headers before it (GNU long names, PAX).

Files get smuggled past a check when two readers of one archive disagree. So wherever the formats
say something twice (size, name) and the values differ, or a reader is known to misparse, the
archive is refused; nothing is skipped. `pull.layers` decides which entries an image layer may have,
and what they mean together; the caller also reads the blocks.
"""

from collections.abc import Mapping
from enum import Enum
from functools import lru_cache

from ccinit.annotations import NamedTuple
from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.oci.tar_header import MAX_OCTAL_ID, MAX_OCTAL_SIZE, TarFormat, TarHeader
from ccinit.formats.oci.tar_path import MAX_PATH_BYTES, normal_path
from ccinit.formats.oci.tar_pax import XATTR_PREFIX, parse_pax

MAX_LONG_NAME_BYTES = MAX_PATH_BYTES + 1
MAX_SIZE_BYTES = 1 << 50
MAX_TIME_SECONDS = 1 << 40
MAX_ID = 0xFFFF_FFFE  # the next one means "leave unchanged" to chown(2)

_KNOWN_KINDS = 512
"""Cached: types and modes repeat within an archive."""

_TYPE_BITS = 0o170000
_NO_RECORDS: Mapping[bytes, bytes] = {}


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


@lru_cache(maxsize=_KNOWN_KINDS)
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
