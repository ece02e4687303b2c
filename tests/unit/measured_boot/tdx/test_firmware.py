import struct

import pytest

from ccinit.errors import ConfigError, FormatError
from measured_boot.tdx.firmware import TdxSection, parse_tdx_sections
from tests.fakes.platforms.firmware import (
    TDX_LIST_OFFSET,
    TDX_METADATA,
    TDX_SECTIONS,
    FakeFirmware,
    entry,
    tdx_list,
)


def with_list(content: bytes) -> bytes:
    return FakeFirmware(lists={TDX_LIST_OFFSET: content}).to_bytes()


def with_section(**changes: int) -> bytes:
    names = ("offset", "length", "address", "size", "kind", "attributes")
    row = {**dict(zip(names, TDX_SECTIONS[0], strict=True)), **changes}
    return with_list(tdx_list([tuple(row[name] for name in names)]))


def test_parse_tdx_sections_reads_content_place_and_attributes() -> None:
    data = with_list(tdx_list(TDX_SECTIONS))
    assert parse_tdx_sections(data) == tuple(
        TdxSection(
            content=data[offset : offset + length],
            address=address,
            size=size,
            is_measured=bool(attributes & 1),
            is_added_later=bool(attributes & 2),
        )
        for offset, length, address, size, _, attributes in TDX_SECTIONS
    )


def test_parse_tdx_sections_of_firmware_for_others_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        parse_tdx_sections(FakeFirmware().to_bytes())
    assert error.value.reason == "launch.firmware"


@pytest.mark.parametrize(
    "data",
    [
        FakeFirmware(more=entry(TDX_METADATA, b"123")).to_bytes(),
        FakeFirmware(more=entry(TDX_METADATA, struct.pack("<I", 0xFFFFFFFF))).to_bytes(),
        FakeFirmware(more=entry(TDX_METADATA, struct.pack("<I", 15))).to_bytes(),
        with_list(tdx_list(TDX_SECTIONS, magic=b"TDVG")),
        with_list(tdx_list(TDX_SECTIONS, version=2)),
        with_list(tdx_list(TDX_SECTIONS, count=len(TDX_SECTIONS) - 1)),
        with_list(tdx_list(TDX_SECTIONS, size=15)),
        with_list(tdx_list(TDX_SECTIONS, count=65, size=16 + 65 * 32)),
        with_section(offset=0x5000),
        with_section(length=0x5001),
        with_section(length=0x2001, size=0x2000),
        with_section(address=0x1001),
        with_section(size=0x3001),
        with_section(address=1 << 52),
        with_section(attributes=4),
        with_list(tdx_list([(0, 0, 0, 0x8001000, 3, 0)] * 2)),
    ],
)
def test_parse_tdx_sections_refuses(data: bytes) -> None:
    assert parse_tdx_sections(with_section())
    with pytest.raises(FormatError) as error:
        parse_tdx_sections(data)
    assert error.value.reason == "firmware.tdx"


def test_parse_tdx_sections_says_that_a_section_is_too_long_for_its_memory() -> None:
    with pytest.raises(FormatError, match="8193 bytes of content for 8192 of memory"):
        parse_tdx_sections(with_section(length=0x2001, size=0x2000))
