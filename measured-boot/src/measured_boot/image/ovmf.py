"""Read the table at the end of an OVMF file, which says where firmware keeps what a launch needs.

The table is before the reset vector and is read backwards: each entry is its content, its length
including the 18 bytes of this header, and its GUID. `measured_boot.sev.firmware` and
`measured_boot.tdx.firmware` interpret the entries.

Specification: EDK2, `OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm` (GUIDed structure).
"""

import struct
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from ccinit.errors import FormatError, LimitExceededError

PAGE_BYTES: Final = 4096
MAX_FIRMWARE_BYTES: Final = 64 * 1024 * 1024
END_ADDRESS: Final = 1 << 32
"""Firmware ends here, so that the processor's reset vector lies in its last 16 bytes."""

_FOOTER: Final = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
_RESET_VECTOR_BYTES: Final = 32
_HEADER: Final = struct.Struct("<H16s")
_MAX_ENTRIES: Final = 32


def parse_footer_table(data: bytes) -> Mapping[UUID, bytes]:
    """Return the content of each entry by its GUID; empty if the file has no table.

    Raises:
        FormatError: `firmware.length`, `firmware.table`.
    """
    if len(data) > MAX_FIRMWARE_BYTES:
        raise LimitExceededError("firmware.length", f"more than {MAX_FIRMWARE_BYTES} bytes")
    if not data or len(data) % PAGE_BYTES:
        raise FormatError("firmware.length", f"{len(data)} bytes are not whole pages of firmware")
    end = len(data) - _RESET_VECTOR_BYTES
    size, guid = _HEADER.unpack_from(data, end - _HEADER.size)
    if UUID(bytes_le=guid) != _FOOTER:
        return {}
    if not _HEADER.size <= size <= end:
        raise FormatError("firmware.table", f"a table of {size} bytes")
    return _read_entries(data[end - size : end - _HEADER.size])


def require_inside(data: bytes, offset: int, size: int, reason: str) -> None:
    """Refuse a structure that is not wholly inside the file.

    Raises:
        FormatError: it is not.
    """
    if offset < 0 or offset + size > len(data):
        raise FormatError(reason, f"{size} bytes at {offset} are not inside the firmware")


def read_offset_from_end(content: bytes, data: bytes, reason: str) -> int:
    """Return the file offset that an entry gives as a distance from the file's end.

    Raises:
        FormatError: the entry holds no such number.
    """
    if len(content) < 4:
        raise FormatError(reason, "an entry of the table is too short")
    return len(data) - int.from_bytes(content[:4], "little")


def _read_entries(table: bytes) -> Mapping[UUID, bytes]:
    entries: dict[UUID, bytes] = {}
    end = len(table)
    while end:
        if end < _HEADER.size or len(entries) == _MAX_ENTRIES:
            raise FormatError("firmware.table", "the entries do not fill the table")
        size, guid = _HEADER.unpack_from(table, end - _HEADER.size)
        name = UUID(bytes_le=guid)
        if not _HEADER.size <= size <= end or name in entries:
            raise FormatError("firmware.table", f"entry {name} has {size} bytes or comes twice")
        entries[name] = table[end - size : end - _HEADER.size]
        end -= size
    return entries
