"""One header block of a tar: v7, ustar, and GNU's numbers in base 256 (POSIX.1-2017 pax, tar(5)).

`tar_entry` joins headers with what extension headers say in their place.
"""

import struct
from enum import Enum
from functools import lru_cache

from ccinit.annotations import NamedTuple
from ccinit.errors import FormatError

BLOCK_BYTES = 512
ZERO_BLOCK = bytes(BLOCK_BYTES)
END_OF_ARCHIVE = 2 * ZERO_BLOCK

MAX_OCTAL_SIZE = 0o77777777777
MAX_OCTAL_ID = 0o7777777
"""The largest numbers that a ustar header holds in its fields of 12 and 8 bytes."""

_KNOWN_FIELDS = 512
"""Cached: modes, owners and times repeat within an archive, and so does the end of a header."""

_FIELDS = struct.Struct("100s 24s 12s 12s 8s 1s 100s 255s")
"""Name; mode, uid and gid; size; mtime; checksum; type; link; magic and all behind it."""

_BLANKS = b" \0"


class TarFormat(Enum):
    """Which of the header layouts a block has."""

    V7 = "v7"
    USTAR = "ustar"
    GNU = "gnu"


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
