"""Read an initrd member by member, as the kernel does: concatenated archives, plain or zstd.

It serves to compare what we have made, and refuses anything that `measured_boot.image.cpio` would
not write.

Specification: Linux `Documentation/driver-api/early-userspace/buffer-format.rst` (magic 070701).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import zstandard

from ccinit.errors import FormatError

FIELDS: Final = (
    *("inode", "mode", "uid", "gid", "links", "mtime", "size", "device major", "device minor"),
    *("node major", "node minor", "name length", "checksum"),
)
_MAGIC: Final = b"070701"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_HEADER_BYTES: Final = 110
_NUMBERS: Final = re.compile(b"[0-9A-Fa-f]{104}")
_TRAILER: Final = "TRAILER!!!"
_MAX_UNPACKED_BYTES: Final = 1 << 28
_PIECE_BYTES: Final = 4096
"""Few enough that what one piece unpacks to does not matter beside the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpioMember:
    """One member of an archive.

    Attributes:
        name: its path; that of a trailer is left as it is.
        fields: the thirteen numbers of its header, named by `FIELDS`.
        data: content.
    """

    name: str
    fields: tuple[int, ...]
    data: bytes


def read_initrd(data: bytes) -> tuple[CpioMember, ...]:
    """Return the members of all archives of an initrd, trailers included.

    Raises:
        FormatError: `cpio.magic`, `cpio.header`, `cpio.zstd`.
    """
    members: list[CpioMember] = []
    offset = 0
    while offset < len(data):
        if data[offset : offset + len(_ZSTD)] == _ZSTD:
            members += _read_archive(_unpack(data[offset:]), 0)
            break  # nothing follows the compressed archive but padding
        archive = tuple(_read_archive(data, offset))
        members += archive
        offset += sum(_length(member) for member in archive)
    return tuple(members)


def _read_archive(data: bytes, offset: int) -> Iterator[CpioMember]:
    while offset < len(data):
        member = _read_member(data, offset)
        yield member
        if member.name == _TRAILER:
            return
        offset += _length(member)
    raise FormatError("cpio.header", "an archive without trailer")


def _read_member(data: bytes, offset: int) -> CpioMember:
    header = data[offset : offset + _HEADER_BYTES]
    if header[: len(_MAGIC)] != _MAGIC:
        raise FormatError("cpio.magic", f"no member at byte {offset}")
    numbers = header[len(_MAGIC) :]
    if _NUMBERS.fullmatch(numbers) is None:  # int() would take signs, spaces and "0x", too
        raise FormatError("cpio.header", f"not hex digits in the header at byte {offset}")
    fields = tuple(int(numbers[start : start + 8], 16) for start in range(0, 104, 8))
    size, name_length = fields[6], fields[11]
    start = offset + _aligned(_HEADER_BYTES + name_length)
    if start + size > len(data) or name_length == 0:
        raise FormatError("cpio.header", f"the member at byte {offset} is cut")
    name = data[offset + _HEADER_BYTES : offset + _HEADER_BYTES + name_length - 1]
    return CpioMember(
        name=name.decode(errors="replace"), fields=fields, data=data[start : start + size]
    )


def _length(member: CpioMember) -> int:
    return _aligned(_HEADER_BYTES + member.fields[11]) + _aligned(member.fields[6])


def _aligned(length: int) -> int:
    return -(-length // 4) * 4


def _unpack(data: bytes) -> bytes:
    """Unpack one frame; like the kernel, ignore the padding after it."""
    reader = zstandard.ZstdDecompressor().decompressobj()
    unpacked = bytearray()
    try:
        for start in range(0, len(data), _PIECE_BYTES):
            unpacked += reader.decompress(data[start : start + _PIECE_BYTES])
            if reader.eof or len(unpacked) > _MAX_UNPACKED_BYTES:
                break
    except zstandard.ZstdError as error:
        raise FormatError("cpio.zstd", "the compressed archive cannot be unpacked") from error
    if not reader.eof or len(unpacked) > _MAX_UNPACKED_BYTES:
        raise FormatError("cpio.zstd", "the compressed archive is cut, or too long")
    return bytes(unpacked)
