"""The Authenticode hash here is also compared with other programs' in tests/integration."""

import hashlib

import pytest

from ccinit.errors import FormatError, LimitExceededError
from measured_boot.image import pe
from measured_boot.image.pe import PeImage, parse_pe
from tests.fakes.published.pe_images import (
    HEADER,
    OPTIONAL,
    SECURITY_ENTRY,
    TABLE,
    FakePe,
    with_field,
)

GOOD = FakePe(sections={".text": b"code", ".data": b"data" * 200}).to_bytes()
SIGNED = FakePe(sections={".text": b"code"}, certificates=b"signature").to_bytes()


def reference_hash(data: bytes, end: int | None = None) -> bytes:
    """Hash a file whose sections follow each other: all but three holes."""
    holes = data[: OPTIONAL + 64] + data[OPTIONAL + 68 : SECURITY_ENTRY]
    return hashlib.sha256(holes + data[SECURITY_ENTRY + 8 : end]).digest()


def test_parse_pe_good_image_has_its_sections() -> None:
    image = parse_pe(GOOD)
    assert [section.name for section in image.sections] == [".text", ".data"]
    assert bytes(image.section(".text")) == b"code"
    assert bytes(image.section(".data")) == b"data" * 200
    assert image.has_section(".text")
    assert not image.has_section(".rodata")


def test_section_missing_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        parse_pe(GOOD).section(".linux")
    assert error.value.reason == "pe.section.missing"


def test_section_longer_in_memory_than_in_file_is_refused() -> None:
    image = parse_pe(with_field(GOOD, TABLE + 8, "<I", 4096))
    with pytest.raises(FormatError) as error:
        image.section(".text")
    assert error.value.reason == "pe.section.short"


def test_authenticode_unsigned_covers_all_but_checksum_and_entry() -> None:
    assert parse_pe(GOOD).authenticode() == reference_hash(GOOD)


def test_authenticode_signed_leaves_certificates_out() -> None:
    assert parse_pe(SIGNED).authenticode() == reference_hash(SIGNED, -len(b"signature"))
    other = FakePe(sections={".text": b"code"}, certificates=b"other sign.").to_bytes()
    assert parse_pe(other).authenticode() == parse_pe(SIGNED).authenticode()


def test_wide_authenticode_covers_the_same_bytes() -> None:
    holes = SIGNED[: OPTIONAL + 64] + SIGNED[OPTIONAL + 68 : SECURITY_ENTRY]
    covered = holes + SIGNED[SECURITY_ENTRY + 8 : -len(b"signature")]
    assert parse_pe(SIGNED).authenticode("sha384") == hashlib.sha384(covered).digest()


def test_authenticode_ignores_the_checksum() -> None:
    changed = FakePe(sections={".text": b"code"}, certificates=b"signature", checksum=7).to_bytes()
    assert changed != SIGNED
    assert parse_pe(changed).authenticode() == parse_pe(SIGNED).authenticode()


def test_authenticode_covers_what_follows_the_sections_without_padding() -> None:
    longer = GOOD + b"abc"
    assert parse_pe(longer).authenticode() == reference_hash(longer)
    assert parse_pe(longer).authenticode() != parse_pe(GOOD).authenticode()


@pytest.mark.parametrize("offset", [10, HEADER + 8, TABLE + 2, len(GOOD) - 1])
def test_authenticode_changes_with_any_other_byte(offset: int) -> None:
    changed = bytearray(GOOD)
    changed[offset] ^= 1
    assert parse_pe(bytes(changed)).authenticode() != parse_pe(GOOD).authenticode()


def test_authenticode_hashes_sections_in_file_order() -> None:
    first, second = GOOD[TABLE : TABLE + 40], GOOD[TABLE + 40 : TABLE + 80]
    swapped = GOOD[:TABLE] + second + first + GOOD[TABLE + 80 :]
    assert parse_pe(swapped).authenticode() == reference_hash(swapped)


def test_authenticode_without_certificate_entry_has_no_hole_for_it() -> None:
    # four directories: the fifth would be the certificates'
    short = with_field(GOOD, OPTIONAL + 108, "<I", 4)
    short = with_field(short, HEADER + 20, "<H", 112 + 4 * 8)
    table = OPTIONAL + 112 + 4 * 8
    short = short[:table] + GOOD[TABLE : TABLE + 80] + bytes(96) + short[table + 80 + 96 :]
    expected = hashlib.sha256(short[: OPTIONAL + 64] + short[OPTIONAL + 68 :]).digest()
    assert len(short) == len(GOOD)
    assert parse_pe(short).authenticode() == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "pe.magic"),
        (GOOD[:63], "pe.magic"),
        (b"ZM" + GOOD[2:], "pe.magic"),
        (with_field(GOOD, 60, "<I", 0xFFFFFFFF), "pe.header"),
        (with_field(GOOD, 60, "<I", len(GOOD) - 23), "pe.header"),
        (with_field(GOOD, HEADER, "<I", 0), "pe.magic"),
        (with_field(GOOD, HEADER + 4, "<H", 0xAA64), "pe.machine"),
        (with_field(GOOD, HEADER + 6, "<H", 97), "pe.section.count"),
        (with_field(GOOD, HEADER + 6, "<H", 90), "pe.headers"),
        (with_field(GOOD, HEADER + 20, "<H", 0xFFFF), "pe.optional"),
        (with_field(GOOD, HEADER + 20, "<H", 112), "pe.optional"),
        (GOOD[: OPTIONAL + 111], "pe.optional"),
        (with_field(GOOD, OPTIONAL, "<H", 0x10B), "pe.optional"),
        (with_field(GOOD, OPTIONAL + 108, "<I", 17), "pe.optional"),
        (with_field(GOOD, OPTIONAL + 60, "<I", TABLE + 79), "pe.headers"),
        (with_field(GOOD, OPTIONAL + 60, "<I", len(GOOD) + 1), "pe.headers"),
        (GOOD[:TABLE] + b"\xff" + GOOD[TABLE + 1 :], "pe.section.name"),
        (GOOD[:TABLE] + b".t\0xt\0\0\0" + GOOD[TABLE + 8 :], "pe.section.name"),
        (GOOD[:TABLE] + b".data\0\0\0" + GOOD[TABLE + 8 :], "pe.section.twice"),
        (with_field(GOOD, TABLE + 16, "<I", len(GOOD)), "pe.section.bounds"),
        (with_field(GOOD, TABLE + 20, "<I", 0xFFFFFFFF), "pe.section.bounds"),
        (with_field(GOOD, TABLE + 20, "<I", 0), "pe.section.bounds"),
        (with_field(GOOD, TABLE + 16, "<I", 1024), "pe.section.bounds"),
        (with_field(SIGNED, SECURITY_ENTRY, "<I", 8), "pe.certificates"),
        (with_field(SIGNED, SECURITY_ENTRY + 4, "<I", 0xFFFFFFFF), "pe.certificates"),
        (SIGNED + b"x", "pe.certificates"),
        (with_field(SIGNED, SECURITY_ENTRY, "<II", 600, len(SIGNED) - 600), "pe.certificates"),
    ],
)
def test_parse_pe_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_pe(data)
    assert error.value.reason == reason


def test_parse_pe_section_without_content_may_have_any_offset() -> None:
    image = parse_pe(with_field(GOOD, TABLE + 16, "<II", 0, 0xFFFFFFFF))
    assert image.sections[0].raw_size == 0


def test_parse_pe_refuses_what_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pe, "MAX_IMAGE_BYTES", len(GOOD) - 1)
    with pytest.raises(LimitExceededError) as error:
        parse_pe(GOOD)
    assert error.value.reason == "pe.length"


@pytest.mark.parametrize("size", range(0, len(GOOD), 61))
def test_parse_pe_of_a_cut_file_never_succeeds(size: int) -> None:
    with pytest.raises(FormatError) as error:
        parse_pe(GOOD[:size])
    assert error.value.reason.startswith("pe.")


def test_image_is_a_value() -> None:
    assert parse_pe(GOOD) == parse_pe(GOOD)
    assert isinstance(parse_pe(SIGNED), PeImage)
    assert parse_pe(SIGNED).certificates_size == len(b"signature")
