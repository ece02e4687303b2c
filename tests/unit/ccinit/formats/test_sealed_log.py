"""Layout of the sealed stream: header, heads, plaintexts, pieces."""

import hashlib

import msgpack  # type: ignore[import-untyped]
import pytest

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.sealed_log import (
    HEADER_BYTES,
    MAX_ENTRY_BYTES,
    BootId,
    Header,
    Kind,
    Record,
    RecordHead,
    SizeClass,
    Tag,
    associated_data,
    capacity,
    encode_plaintext,
    header_tag,
    hpke_info,
    parse_boot_id,
    parse_head,
    parse_header,
    parse_plaintext,
    plan_pieces,
    report_data,
    signed_message,
)

BOOT_ID = BootId(bytes(range(16)))
HEADER = Header(boot_id=BOOT_ID, sealed_seed=bytes(1120 + 48))
RECORD = Record(boottime_us=1_500_000, kind=Kind.STDOUT, source="web", dropped=3, data=b"hello\n")


def packed(*fields: object) -> bytes:
    data: bytes = msgpack.packb(fields)
    return data + bytes(SizeClass.SMALL.plain_bytes - len(data))


def test_header_encoded_and_parsed_is_the_same() -> None:
    data = HEADER.to_bytes()
    assert len(data) == HEADER_BYTES == 1192
    assert data[:8] == b"CCLOG1\x00\x01"
    assert parse_header(data) == HEADER


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "sealed_log.header"),
        (HEADER.to_bytes()[:-1], "sealed_log.header"),
        (HEADER.to_bytes() + b"\0", "sealed_log.header"),
        (b"CCLOG2" + HEADER.to_bytes()[6:], "sealed_log.magic"),
        (b"CCLOG1\x00\x02" + HEADER.to_bytes()[8:], "sealed_log.suite"),
    ],
)
def test_header_malformed_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_header(data)
    assert error.value.reason == reason


def test_boot_id_of_other_length_is_refused() -> None:
    assert parse_boot_id(BOOT_ID) == BOOT_ID
    with pytest.raises(FormatError) as error:
        parse_boot_id(BOOT_ID[:-1])
    assert error.value.reason == "sealed_log.boot_id"


def test_head_encoded_and_parsed_is_the_same() -> None:
    head = RecordHead(size_class=SizeClass.LARGE, index=0x0102030405060708)
    assert head.to_bytes() == b"\x03\x01\x02\x03\x04\x05\x06\x07\x08"
    assert parse_head(head.to_bytes() + b"ciphertext") == head


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x01" + bytes(7), "sealed_log.head"),
        (b"\x00" + bytes(8), "sealed_log.class"),
        (b"\x04" + bytes(8), "sealed_log.class"),
    ],
)
def test_head_malformed_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_head(data)
    assert error.value.reason == reason


@pytest.mark.parametrize("size_class", SizeClass)
@pytest.mark.parametrize("more", [False, True])
def test_plaintext_encoded_and_parsed_is_the_same(size_class: SizeClass, *, more: bool) -> None:
    record = Record(
        boottime_us=0, kind=Kind.KERNEL, source="", dropped=0, data=b"\0\x1b[2J\xff", more=more
    )
    data = encode_plaintext(record, size_class)
    assert len(data) == size_class.plain_bytes == size_class.wire_bytes - 25
    assert parse_plaintext(data) == record


def test_plaintext_at_capacity_fits_and_one_byte_more_does_not() -> None:
    source = "s" * 63
    widest = {"boottime_us": 2**64 - 1, "kind": Kind.STDERR, "source": source, "more": True}
    for size_class in SizeClass:
        room = capacity(size_class, source)
        record = Record(dropped=2**64 - 1, data=bytes(room), **widest)  # type: ignore[arg-type]
        assert parse_plaintext(encode_plaintext(record, size_class)) == record
    too_long = Record(boottime_us=0, kind=Kind.EVENT, source="", dropped=0, data=bytes(487))
    with pytest.raises(LimitExceededError) as error:
        encode_plaintext(too_long, SizeClass.SMALL)
    assert error.value.reason == "sealed_log.size"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "sealed_log.plaintext"),
        (b"\x95\x00", "sealed_log.plaintext"),
        (b"\xc1" + bytes(20), "sealed_log.plaintext"),
        (packed(1, 3, b"x", 0, b""), "sealed_log.fields"),
        (packed(1, 3, "x", 0, "text"), "sealed_log.fields"),
        (packed(1, 3, "x", 0), "sealed_log.fields"),
        (packed(1, 3, "x", 0, b"", 0), "sealed_log.plaintext"),
        (packed(-1, 3, "x", 0, b""), "sealed_log.fields"),
        (packed(1.5, 3, "x", 0, b""), "sealed_log.fields"),
        (packed(*(1, 3, "x", True, b"")), "sealed_log.fields"),
        (packed({}, 3, "x", 0, b""), "sealed_log.fields"),
        (packed(1, 0, "x", 0, b""), "sealed_log.kind"),
        (packed(1, 13, "x", 0, b""), "sealed_log.kind"),
        (packed(1, 256 + 3, "x", 0, b""), "sealed_log.kind"),
        (packed(1, 3, "x" * 64, 0, b""), "sealed_log.source"),
        (packed(1, 3, "x", 0, b"")[:-1] + b"\x01", "sealed_log.padding"),
        (packed(1, 3, "x", 0, b"") + packed(1, 3, "x", 0, b""), "sealed_log.padding"),
    ],
)
def test_plaintext_malformed_is_refused(data: bytes, reason: str) -> None:
    assert parse_plaintext(packed(1, 3, "x", 0, b"")).kind is Kind.STDOUT
    with pytest.raises(FormatError) as error:
        parse_plaintext(data)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("length", "classes"),
    [
        (0, (1,)),
        (459, (1,)),
        (460, (2,)),
        (4043, (2,)),
        (4044, (2, 1)),
        (8 * 4043, (2,) * 8),
        (8 * 4043 + 1, (3,)),
        (65536, (3, 1)),
        (200_000, (3, 3, 3, 2)),
    ],
)
def test_plan_pieces_takes_the_cheapest_classes(length: int, classes: tuple[int, ...]) -> None:
    pieces = tuple(plan_pieces(length, ""))
    assert tuple(piece.size_class for piece in pieces) == classes


@pytest.mark.parametrize("length", [0, 1, 4044, 65536, MAX_ENTRY_BYTES])
def test_plan_pieces_cover_the_entry_without_overlap(length: int) -> None:
    pieces = tuple(plan_pieces(length, "web"))
    assert pieces[0].start == 0
    assert [piece.stop for piece in pieces[:-1]] == [piece.start for piece in pieces[1:]]
    assert pieces[-1].stop == length
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_contexts_are_those_of_the_layout() -> None:
    tag = Tag(b"t" * 16)
    head = RecordHead(size_class=SizeClass.MEDIUM, index=7)
    assert associated_data(BOOT_ID, head, tag) == BOOT_ID + bytes(7) + b"\x07\x02" + tag
    assert hpke_info(BOOT_ID) == b"ccinit/log/v1" + BOOT_ID
    assert header_tag(b"header") == hashlib.sha256(b"header").digest()[:16]
    assert signed_message(BOOT_ID, 2, tag, b"h" * 32) == (
        b"ccinit/log/signature/v1\0" + BOOT_ID + bytes(7) + b"\x02" + tag + b"h" * 32
    )
    expected = hashlib.sha512(b"ccinit/log/v1\0" + BOOT_ID + b"k" * 32).digest()
    assert report_data(BOOT_ID, b"k" * 32) == expected
