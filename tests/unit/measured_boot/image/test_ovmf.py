import struct
from uuid import UUID

import pytest

from ccinit.errors import FormatError, LimitExceededError
from measured_boot.image import ovmf
from measured_boot.image.ovmf import parse_footer_table, read_offset_from_end, require_inside
from tests.fakes.platforms.firmware import HASH_AREA, RESET_BLOCK, SEV_METADATA, FakeFirmware, entry

GOOD = FakeFirmware().to_bytes()
OTHER = UUID("00112233-4455-6677-8899-aabbccddeeff")


def test_parse_footer_table_returns_each_entry() -> None:
    table = parse_footer_table(GOOD)
    assert set(table) == {RESET_BLOCK, HASH_AREA, SEV_METADATA}
    assert table[RESET_BLOCK] == struct.pack("<I", 0x80B004)
    assert table[HASH_AREA] == struct.pack("<II", 0x810400, 0x400)


def test_parse_footer_table_of_firmware_without_one_is_empty() -> None:
    assert parse_footer_table(FakeFirmware(footer=OTHER).to_bytes()) == {}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "firmware.length"),
        (GOOD[:-1], "firmware.length"),
        (FakeFirmware(table_size=17).to_bytes(), "firmware.table"),
        (FakeFirmware(table_size=0xFFFF).to_bytes(), "firmware.table"),
        (FakeFirmware(table_size=20).to_bytes(), "firmware.table"),
        (FakeFirmware(more=entry(OTHER, b"", 17)).to_bytes(), "firmware.table"),
        (FakeFirmware(more=entry(OTHER, b"", 0xFFFF)).to_bytes(), "firmware.table"),
        (FakeFirmware(more=entry(RESET_BLOCK, b"1234")).to_bytes(), "firmware.table"),
        (
            FakeFirmware(
                more=b"".join(entry(UUID(int=number), b"") for number in range(40))
            ).to_bytes(),
            "firmware.table",
        ),
    ],
)
def test_parse_footer_table_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_footer_table(data)
    assert error.value.reason == reason


def test_parse_footer_table_refuses_what_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ovmf, "MAX_FIRMWARE_BYTES", len(GOOD) - 1)
    with pytest.raises(LimitExceededError) as error:
        parse_footer_table(GOOD)
    assert error.value.reason == "firmware.length"


def test_read_offset_from_end_counts_backwards() -> None:
    assert read_offset_from_end(struct.pack("<I", 0x100), GOOD, "r") == len(GOOD) - 0x100
    with pytest.raises(FormatError) as error:
        read_offset_from_end(b"\1\0\0", GOOD, "r")
    assert error.value.reason == "r"


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (len(GOOD), 1), (0, len(GOOD) + 1)])
def test_require_inside_refuses(offset: int, size: int) -> None:
    require_inside(GOOD, 0, len(GOOD), "r")
    with pytest.raises(FormatError) as error:
        require_inside(GOOD, offset, size, "r")
    assert error.value.reason == "r"
