"""Hex has one spelling: lower case, whole bytes, nothing between."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.hexadecimal import decode_hex


def test_hex_of_the_size_is_decoded() -> None:
    assert decode_hex("00ff7a", 3, "x.y") == b"\x00\xff\x7a"
    assert decode_hex("", 0, "x.y") == b""


@pytest.mark.parametrize(
    "value",
    [
        "00ff7",
        "00ff7a00",
        "00FF7A",
        "00 f7a",
        " 0ff7a",
        "0x0f7a",
        "\uff10\uff10ff7a",
        b"00ff7a",
        None,
    ],
)
def test_another_spelling_or_size_is_refused(value: object) -> None:
    with pytest.raises(FormatError) as refused:
        decode_hex(value, 3, "x.y")
    assert str(refused.value) == "x.y: expected 6 lower-case hex digits"
