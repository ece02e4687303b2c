"""Reads the variables in OVMF's variable flash (UEFI PI 1.8 volume 3; EDK II's layout).

This is for inspecting what a guest left there, so deleted and superseded entries are read, too:
their bytes stay in the flash. Nothing is written.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ccinit.errors import FormatError

_VOLUME_SIGNATURE: Final = b"_FVH"
_VOLUME_SIGNATURE_OFFSET: Final = 40
_VOLUME_LENGTH_OFFSET: Final = 48
_STORE_HEADER_BYTES: Final = 28
_ENTRY: Final = struct.Struct("<HBBIQ16sIII16s")  # AUTHENTICATED_VARIABLE_HEADER
_ENTRY_START: Final = 0x55AA
_ALIGNMENT: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class EfiVariable:
    """One variable: who named it (vendor GUID), its name and its value."""

    vendor: str
    name: str
    value: bytes

    @property
    def key(self) -> str:
        """Vendor and name in one word, as efivarfs writes it."""
        return f"{self.name}-{self.vendor}"


def parse_variable_store(flash: bytes) -> tuple[EfiVariable, ...]:
    """Return all variables in `flash`, in their order, deleted ones included.

    Raises:
        FormatError: `efi.store`: there is no firmware volume, or an entry leaves the flash.
    """
    signature = flash[_VOLUME_SIGNATURE_OFFSET : _VOLUME_SIGNATURE_OFFSET + 4]
    if signature != _VOLUME_SIGNATURE or len(flash) < _VOLUME_LENGTH_OFFSET + 2:
        raise FormatError("efi.store", "no firmware volume at the flash's start")
    (header_bytes,) = struct.unpack_from("<H", flash, _VOLUME_LENGTH_OFFSET)
    return tuple(_entries(flash, header_bytes + _STORE_HEADER_BYTES))


def _entries(flash: bytes, offset: int) -> Iterator[EfiVariable]:
    while offset + _ENTRY.size <= len(flash):
        start, _, _, _, _, _, _, name_bytes, value_bytes, vendor = _ENTRY.unpack_from(flash, offset)
        if start != _ENTRY_START:
            return
        name_at = offset + _ENTRY.size
        value_at = name_at + name_bytes
        end = value_at + value_bytes
        if end > len(flash):
            raise FormatError("efi.store", f"the entry at {offset:#x} leaves the flash")
        yield EfiVariable(
            vendor=str(UUID(bytes_le=vendor)),
            name=flash[name_at:value_at].decode("utf-16-le", "replace").rstrip("\0"),
            value=flash[value_at:end],
        )
        offset = -(-end // _ALIGNMENT) * _ALIGNMENT
