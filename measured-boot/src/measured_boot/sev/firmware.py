"""What a launch under SEV reads from an OVMF file: entry points, hash area, list of special pages.

An SVSM's file has the same table with an entry of its own (`measured_boot.sev.svsm`).

Specification: EDK2, `OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm` (list of pages, "ASEV") and
`Ia16/ResetVectorVtf0.asm` (reset block, hash area).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from uuid import UUID

from ccinit.errors import FormatError, LimitExceededError
from measured_boot.image.ovmf import (
    END_ADDRESS,
    PAGE_BYTES,
    parse_footer_table,
    read_offset_from_end,
    require_inside,
)

_RESET_BLOCK: Final = UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
_HASH_AREA: Final = UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
_METADATA: Final = UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
_METADATA_HEADER: Final = struct.Struct("<4sIII")  # magic, bytes, version, count
_PAGES: Final = struct.Struct("<III")  # address, bytes, kind
_AREA: Final = struct.Struct("<II")  # address, bytes
_MAX_LISTED: Final = 64
_MAX_LISTED_BYTES: Final = 64 * 1024 * 1024


class PageKind(IntEnum):
    """What the pages of one entry of the list are for."""

    MEMORY = 1
    SECRETS = 2
    CPUID = 3
    SVSM_CALLING_AREA = 4
    KERNEL_HASHES = 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialPages:
    """Pages that the launch puts in place beside firmware itself.

    Attributes:
        address: guest physical, a whole page.
        size: in bytes, whole pages.
    """

    address: int
    size: int
    kind: PageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class SevFirmware:
    """A firmware file as a launch sees it; made by `parse_sev_firmware`.

    Attributes:
        data: the whole file.
        reset_address: where processors but the first begin; None if the file does not say.
        hash_area: guest physical address of the kernel's hashes; None if firmware takes none.
            Whether it looks there, `measured_boot.sev.blob_verifier` tells.
        special_pages: in the order of the file; empty if it is not built for SEV-SNP.
    """

    data: bytes
    reset_address: int | None
    hash_area: int | None
    special_pages: tuple[SpecialPages, ...]

    @property
    def address(self) -> int:
        """Guest physical address of the first byte."""
        return END_ADDRESS - len(self.data)

    @property
    def has_hash_page(self) -> bool:
        """Whether the list of pages has one for the kernel's hashes."""
        return any(pages.kind is PageKind.KERNEL_HASHES for pages in self.special_pages)


def parse_sev_firmware(data: bytes) -> SevFirmware:
    """Read what a launch needs from an OVMF file.

    Raises:
        FormatError: with a reason below `firmware`.
    """
    table = parse_footer_table(data)
    return SevFirmware(
        data=data,
        reset_address=_read_reset_address(table.get(_RESET_BLOCK)),
        hash_area=_read_hash_area(table.get(_HASH_AREA)),
        special_pages=read_special_pages(data, table),
    )


def read_special_pages(data: bytes, table: Mapping[UUID, bytes]) -> tuple[SpecialPages, ...]:
    """Return the list of pages that a file with this table wants; empty if it has none.

    Raises:
        FormatError: `firmware.metadata`.
    """
    content = table.get(_METADATA)
    return () if content is None else _read_list(data, content)


def _read_reset_address(content: bytes | None) -> int | None:
    if content is None:
        return None
    if len(content) < 4:
        raise FormatError("firmware.reset_block", "the reset block in the table is too short")
    return int.from_bytes(content[:4], "little") or None


def _read_hash_area(content: bytes | None) -> int | None:
    """Return the address; a build that takes no hashes has an entry with address 0."""
    if content is None:
        return None
    if len(content) < _AREA.size:
        raise FormatError("firmware.hash_area", "the hash area in the table is too short")
    address, _ = _AREA.unpack_from(content)
    return int(address) or None


def _read_list(data: bytes, content: bytes) -> tuple[SpecialPages, ...]:
    start = read_offset_from_end(content, data, "firmware.metadata")
    require_inside(data, start, _METADATA_HEADER.size, "firmware.metadata")
    magic, size, version, count = _METADATA_HEADER.unpack_from(data, start)
    if (magic, version) != (b"ASEV", 1):
        raise FormatError("firmware.metadata", "not a list of pages, version 1")
    if count > _MAX_LISTED:
        raise LimitExceededError(
            "firmware.metadata", f"expected at most {_MAX_LISTED} entries, found {count}"
        )
    if size != _METADATA_HEADER.size + count * _PAGES.size:
        raise FormatError("firmware.metadata", f"{count} entries in {size} bytes")
    require_inside(data, start, size, "firmware.metadata")
    rows = _PAGES.iter_unpack(data[start + _METADATA_HEADER.size : start + size])
    pages = tuple(_read_pages(*row) for row in rows)
    if sum(entry.size for entry in pages) > _MAX_LISTED_BYTES:
        detail = f"the list has pages of more than {_MAX_LISTED_BYTES} bytes"
        raise LimitExceededError("firmware.metadata", detail)
    return pages


def _read_pages(address: int, size: int, kind: int) -> SpecialPages:
    if kind not in set(PageKind):
        raise FormatError("firmware.metadata", f"pages of kind {kind:#x}, which is not known")
    if address % PAGE_BYTES or size % PAGE_BYTES or not size or address + size > END_ADDRESS:
        detail = f"{size:#x} bytes at {address:#x} are not whole pages below 4 GiB"
        raise FormatError("firmware.metadata", detail)
    return SpecialPages(address=address, size=size, kind=PageKind(kind))
