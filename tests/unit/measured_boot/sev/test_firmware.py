import struct

import pytest

from ccinit.errors import FormatError
from measured_boot.sev.firmware import PageKind, SpecialPages, parse_sev_firmware
from tests.fakes.platforms.firmware import (
    HASH_AREA,
    RESET_BLOCK,
    SEV_LIST_OFFSET,
    SEV_METADATA,
    SNP_PAGES,
    FakeFirmware,
    entry,
    sev_list,
)


def with_list(content: bytes) -> bytes:
    return FakeFirmware(lists={SEV_LIST_OFFSET: content}).to_bytes()


def test_parse_sev_firmware_reads_what_a_launch_needs() -> None:
    data = FakeFirmware().to_bytes()
    firmware = parse_sev_firmware(data)
    assert firmware.data == data
    assert firmware.address == 0x1_0000_0000 - len(data)
    assert firmware.reset_address == 0x80B004
    assert firmware.hash_area == 0x810400
    assert firmware.has_hash_page
    assert firmware.special_pages == tuple(
        SpecialPages(address=address, size=size, kind=PageKind(kind))
        for address, size, kind in SNP_PAGES
    )


def test_parse_sev_firmware_without_anything() -> None:
    plain = FakeFirmware(reset_address=None, hash_area=None, pages=None)
    firmware = parse_sev_firmware(plain.to_bytes())
    assert (firmware.reset_address, firmware.hash_area) == (None, None)
    assert firmware.special_pages == ()
    assert not firmware.has_hash_page


def test_parse_sev_firmware_address_zero_is_none() -> None:
    firmware = parse_sev_firmware(FakeFirmware(reset_address=0, hash_area=(0, 0)).to_bytes())
    assert (firmware.reset_address, firmware.hash_area) == (None, None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            FakeFirmware(reset_address=None, more=entry(RESET_BLOCK, b"123")).to_bytes(),
            "firmware.reset_block",
        ),
        (
            FakeFirmware(hash_area=None, more=entry(HASH_AREA, bytes(7))).to_bytes(),
            "firmware.hash_area",
        ),
        (
            FakeFirmware(pages=None, more=entry(SEV_METADATA, b"123")).to_bytes(),
            "firmware.metadata",
        ),
        (
            FakeFirmware(
                pages=None, more=entry(SEV_METADATA, struct.pack("<I", 0xFFFFFFFF))
            ).to_bytes(),
            "firmware.metadata",
        ),
        (
            FakeFirmware(pages=None, more=entry(SEV_METADATA, struct.pack("<I", 15))).to_bytes(),
            "firmware.metadata",
        ),
        (with_list(sev_list(SNP_PAGES, magic=b"ASEW")), "firmware.metadata"),
        (with_list(sev_list(SNP_PAGES, version=2)), "firmware.metadata"),
        (with_list(sev_list(SNP_PAGES, count=6)), "firmware.metadata"),
        (with_list(sev_list(SNP_PAGES, size=15)), "firmware.metadata"),
        (with_list(sev_list(SNP_PAGES, count=65, size=16 + 65 * 12)), "firmware.metadata"),
        (with_list(sev_list([(0x800000, 0x1000, 9)])), "firmware.metadata"),
        (with_list(sev_list([(0x800001, 0x1000, 1)])), "firmware.metadata"),
        (with_list(sev_list([(0x800000, 0x1001, 1)])), "firmware.metadata"),
        (with_list(sev_list([(0x800000, 0, 1)])), "firmware.metadata"),
        (with_list(sev_list([(0xFFFFF000, 0x2000, 1)])), "firmware.metadata"),
        (with_list(sev_list([(0, 0x2001000, 1), (0, 0x2001000, 1)])), "firmware.metadata"),
    ],
)
def test_parse_sev_firmware_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_sev_firmware(data)
    assert error.value.reason == reason
