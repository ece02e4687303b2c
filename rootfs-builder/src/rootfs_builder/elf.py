"""Read just enough of ELF files to know what a program needs, and drop what no program needs.

Only 64-bit little-endian files are understood: the guest is x86-64. The caller decides which files
belong in an image.

Specification: System V ABI, generic part, chapters 4 and 5.
"""

import struct
from dataclasses import dataclass
from typing import Final

from ccinit.errors import FormatError

_MAGIC: Final = b"\x7fELF\x02\x01"
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_DYNAMIC: Final = struct.Struct("<QQ")
_LOAD, _DYNAMIC_SEGMENT, _INTERPRETER = 1, 2, 3
_END, _NEEDED, _STRING_TABLE = 0, 1, 5


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the file with an address in memory; `size` is that in the file."""

    kind: int
    offset: int
    address: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ElfFile:
    """What the loader needs to know.

    Attributes:
        interpreter: path of the dynamic loader; empty for shared libraries and static programs.
        needed: names of shared libraries, in order.
        loaded: all that is ever mapped.
    """

    interpreter: str
    needed: tuple[str, ...]
    loaded: tuple[Segment, ...]


def is_elf(data: bytes) -> bool:
    """Return whether the file begins like any ELF file."""
    return data[:4] == _MAGIC[:4]


def parse_elf(data: bytes) -> ElfFile:
    """Return what the loader needs to know of an ELF file.

    Raises:
        FormatError: not a 64-bit little-endian ELF file, or it points outside of itself.
    """
    if data[: len(_MAGIC)] != _MAGIC or len(data) < _HEADER.size:
        raise FormatError("elf.magic", "not a 64-bit little-endian ELF file")
    try:
        segments = _segments(data)
        return ElfFile(
            interpreter=_interpreter(data, segments),
            needed=_needed(data, segments),
            loaded=tuple(segment for segment in segments if segment.kind == _LOAD),
        )
    except (struct.error, ValueError, OverflowError) as error:  # the last: beyond 2^63
        raise FormatError("elf.offset", "a table lies outside of the file") from error


def strip_unloaded(data: bytes) -> bytes:
    """Return a shared library without the part that is never mapped.

    Section headers, symbols for linkers and debug information lie behind the last loaded segment;
    the header's references to them are cleared.

    Raises:
        FormatError: as for `parse_elf`.
    """
    end = max((part.offset + part.size for part in parse_elf(data).loaded), default=0)
    fields = list(_HEADER.unpack_from(data))
    fields[6] = 0  # e_shoff
    fields[12] = fields[13] = 0  # e_shnum, e_shstrndx
    return _HEADER.pack(*fields) + data[_HEADER.size : end]


def _segments(data: bytes) -> tuple[Segment, ...]:
    header = _HEADER.unpack_from(data)
    table, entry_size, count = header[5], header[9], header[10]  # e_phoff, e_phentsize, e_phnum
    if count and entry_size != _SEGMENT.size:  # without a size, 65535 could lie in one place
        raise FormatError("elf.segment", f"segments of {entry_size} bytes")
    segments = []
    for index in range(count):
        kind, _, offset, address, _, size, _, _ = _SEGMENT.unpack_from(
            data, table + index * entry_size
        )
        if offset + size > len(data):
            raise ValueError("segment outside of the file")
        segments.append(Segment(kind, offset, address, size))
    return tuple(segments)


def _interpreter(data: bytes, segments: tuple[Segment, ...]) -> str:
    for segment in segments:
        if segment.kind == _INTERPRETER:
            return data[segment.offset : segment.offset + segment.size].rstrip(b"\0").decode()
    return ""


def _needed(data: bytes, segments: tuple[Segment, ...]) -> tuple[str, ...]:
    names: list[int] = []
    strings = 0
    for segment in segments:
        if segment.kind != _DYNAMIC_SEGMENT:
            continue
        for offset in range(segment.offset, segment.offset + segment.size, _DYNAMIC.size):
            tag, value = _DYNAMIC.unpack_from(data, offset)
            if tag == _END:
                break
            if tag == _NEEDED:
                names.append(value)
            elif tag == _STRING_TABLE:
                strings = value
    if not names:
        return ()
    table = _file_offset(segments, strings)
    return tuple(_string(data, table + name) for name in names)


def _file_offset(segments: tuple[Segment, ...], address: int) -> int:
    for segment in segments:
        if segment.kind == _LOAD and segment.address <= address < segment.address + segment.size:
            return address - segment.address + segment.offset
    raise ValueError("address in no segment")


def _string(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()
