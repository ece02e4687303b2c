import hashlib
from dataclasses import replace

import pytest

from measured_boot.tdx.build_measurement import measure_build
from measured_boot.tdx.firmware import TdxSection, parse_tdx_sections
from tests.fakes.platforms.firmware import TDX_LIST_OFFSET, TDX_SECTIONS, FakeFirmware, tdx_list

SECTIONS = parse_tdx_sections(
    FakeFirmware(lists={TDX_LIST_OFFSET: tdx_list(TDX_SECTIONS)}).to_bytes()
)


def section(content: bytes, size: int, *, is_measured: bool) -> TdxSection:
    return TdxSection(
        content=content,
        address=0x1000,
        size=size,
        is_measured=is_measured,
        is_added_later=False,
    )


def record(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", "")).ljust(128, b"\0")


ADD = record("4d454d2e504147452e414444 00000000 0010000000000000")  # MEM.PAGE.ADD


def extend(address: str) -> bytes:
    return record(f"4d522e455854454e44 00000000000000 {address}")  # MR.EXTEND


def test_measure_build_added_page_is_one_record() -> None:
    pages = measure_build([section(b"", 4096, is_measured=False)])
    assert pages == hashlib.sha384(ADD).digest()


def test_measure_build_measured_page_is_a_record_and_its_bytes_by_256() -> None:
    content = bytes(range(256)) + b"end"
    expected = ADD + extend("0010000000000000") + content[:256]
    expected += extend("0011000000000000") + b"end".ljust(256, b"\0")
    for chunk in range(2, 16):
        expected += extend(f"001{chunk:x}000000000000") + bytes(256)
    pages = measure_build([section(content, 4096, is_measured=True)])
    assert pages == hashlib.sha384(expected).digest()


def test_measure_build_leaves_out_what_is_added_later() -> None:
    assert [row.is_added_later for row in SECTIONS].count(True) == 1
    kept = [row for row in SECTIONS if not row.is_added_later]
    assert measure_build(SECTIONS) == measure_build(kept)


@pytest.mark.parametrize("index", [0, 5])
def test_measure_build_changes_with_a_byte_of_a_measured_section(index: int) -> None:
    rows = list(SECTIONS)
    content = rows[index].content
    rows[index] = replace(rows[index], content=content[:-1] + bytes([content[-1] ^ 1]))
    assert measure_build(rows) != measure_build(SECTIONS)


def test_measure_build_does_not_change_with_variables() -> None:
    rows = list(SECTIONS)
    rows[1] = replace(rows[1], content=b"another store of variables")
    assert measure_build(rows) == measure_build(SECTIONS)


def test_measure_build_depends_on_order_and_place() -> None:
    assert measure_build(reversed(SECTIONS)) != measure_build(SECTIONS)
    moved = (replace(SECTIONS[0], address=0xFFC02000), *SECTIONS[1:])
    assert measure_build(moved) != measure_build(SECTIONS)
