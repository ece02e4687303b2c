"""The list of sections that an OVMF file gives a host which builds a trust domain from it.

Specification: Intel, TDX Virtual Firmware Design Guide 344991, section 11 (metadata, "TDVF");
EDK2, `OvmfPkg/ResetVector/X64/IntelTdxMetadata.asm`.
"""

import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ccinit.errors import ConfigError, FormatError, LimitExceededError
from measured_boot.image.ovmf import (
    PAGE_BYTES,
    parse_footer_table,
    read_offset_from_end,
    require_inside,
)

_METADATA: Final = UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
_HEADER: Final = struct.Struct("<4sIII")  # magic, bytes, version, count
_SECTION: Final = struct.Struct("<IIQQII")
_MAX_SECTIONS: Final = 64
_MAX_MEMORY_BYTES: Final = 256 * 1024 * 1024
_MAX_ADDRESS: Final = 1 << 52
_EXTENDS: Final = 0x1
_ADDED_LATER: Final = 0x2


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxSection:
    """Memory that the host adds before the domain runs.

    Attributes:
        content: from the file; what follows it, up to `size`, is zero.
        address: guest physical, a whole page.
        size: in bytes, whole pages.
        is_measured: whether the content is measured, and not only that pages were added.
        is_added_later: whether the pages come when the domain runs already, unmeasured.
    """

    content: bytes
    address: int
    size: int
    is_measured: bool
    is_added_later: bool


def parse_tdx_sections(data: bytes) -> tuple[TdxSection, ...]:
    """Return the sections of an OVMF file, in its order.

    Raises:
        FormatError: with a reason below `firmware`.
        ConfigError: `launch.firmware`: the file is not built for TDX.
    """
    content = parse_footer_table(data).get(_METADATA)
    if content is None:
        raise ConfigError("launch.firmware", "this firmware is not built for TDX")
    start = read_offset_from_end(content, data, "firmware.tdx")
    require_inside(data, start, _HEADER.size, "firmware.tdx")
    magic, size, version, count = _HEADER.unpack_from(data, start)
    if (magic, version) != (b"TDVF", 1):
        raise FormatError("firmware.tdx", "not a list of sections, version 1")
    if count > _MAX_SECTIONS:
        raise LimitExceededError(
            "firmware.tdx", f"expected at most {_MAX_SECTIONS} sections, found {count}"
        )
    if size != _HEADER.size + count * _SECTION.size:
        raise FormatError("firmware.tdx", f"{count} sections in {size} bytes")
    require_inside(data, start, size, "firmware.tdx")
    rows = _SECTION.iter_unpack(data[start + _HEADER.size : start + size])
    sections = tuple(_read_section(data, *row) for row in rows)
    if sum(section.size for section in sections) > _MAX_MEMORY_BYTES:
        detail = f"the sections have more than {_MAX_MEMORY_BYTES} bytes"
        raise LimitExceededError("firmware.tdx", detail)
    return sections


def _read_section(
    data: bytes, offset: int, length: int, address: int, size: int, kind: int, attributes: int
) -> TdxSection:
    del kind  # the host treats some kinds differently, but measures all alike
    require_inside(data, offset, length, "firmware.tdx")
    if address % PAGE_BYTES or size % PAGE_BYTES or address + size > _MAX_ADDRESS:
        raise FormatError("firmware.tdx", f"{size:#x} bytes at {address:#x} are not whole pages")
    if length > size:
        raise FormatError("firmware.tdx", f"{length} bytes of content for {size} of memory")
    if attributes & ~(_EXTENDS | _ADDED_LATER):
        raise FormatError("firmware.tdx", f"attributes {attributes:#x}, which are not known")
    return TdxSection(
        content=data[offset : offset + length],
        address=address,
        size=size,
        is_measured=bool(attributes & _EXTENDS),
        is_added_later=bool(attributes & _ADDED_LATER),
    )
