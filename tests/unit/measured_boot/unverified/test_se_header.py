import struct

import pytest

from ccinit.errors import FormatError, LimitExceededError
from measured_boot.unverified import se_header
from measured_boot.unverified.se_header import parse_se_header

ENCRYPTED = b"e" * 128


def header(
    magic: bytes = b"IBMSecEx",
    version: int = 0x100,
    slots: int = 2,
    stated_slots: int | None = None,
    size: int | None = None,
) -> bytes:
    """Return a header as s390-tools writes it, field by field."""
    length = 416 + 80 * slots + len(ENCRYPTED) + 16 if size is None else size
    count = slots if stated_slots is None else stated_slots
    data = magic + struct.pack(">II", version, length) + b"v" * 12 + bytes(4)
    data += struct.pack(">QQQQ", count, len(ENCRYPTED), 1, 0) + b"c" * 160
    data += b"p" * 64 + b"a" * 64 + b"t" * 64
    data += b"".join(bytes([number]) * 32 + b"w" * 32 + b"g" * 16 for number in range(slots))
    return data + ENCRYPTED + b"T" * 16


def test_parse_se_header_reads_what_names_an_image() -> None:
    parsed = parse_se_header(header())
    assert parsed.host_key_hashes == (bytes(32), b"\1" * 32)
    assert parsed.page_digest == b"p" * 64
    assert parsed.address_digest == b"a" * 64
    assert parsed.tweak_digest == b"t" * 64
    assert parsed.tag == b"T" * 16


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "se_header.length"),
        (header()[:415], "se_header.length"),
        (header()[:-1], "se_header.length"),
        (header() + b"x", "se_header.length"),
        (header(size=416), "se_header.length"),
        (header(stated_slots=3), "se_header.length"),
        (header(stated_slots=(1 << 64) - 1), "se_header.length"),
        (header(magic=b"IBMSecEy"), "se_header.magic"),
        (header(version=0x200), "se_header.version"),
    ],
)
def test_parse_se_header_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_se_header(data)
    assert error.value.reason == reason


def test_parse_se_header_refuses_what_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(se_header, "MAX_HEADER_BYTES", len(header()) - 1)
    with pytest.raises(LimitExceededError) as error:
        parse_se_header(header())
    assert error.value.reason == "se_header.length"
