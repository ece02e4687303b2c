"""CBOR: the vectors of RFC 8949, appendix A, that are read, and everything else refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccinit.errors import CcinitError, LimitExceededError
from ccinit.formats.encoding.cbor import MAX_DEPTH, MAX_ITEMS, Tagged, parse_cbor
from tests.fakes.platforms.cca import encode


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("1903e8", 1000),
        ("1a000f4240", 1_000_000),
        ("1bffffffffffffffff", 2**64 - 1),
        ("20", -1),
        ("3903e7", -1000),
        ("40", b""),
        ("4401020304", b"\x01\x02\x03\x04"),
        ("60", ""),
        ("62c3bc", "ü"),
        ("80", []),
        ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a201020304", {1: 2, 3: 4}),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("c11a514b67b0", Tagged(1, 1_363_896_240)),
    ],
)
def test_items_are_read(encoded: str, value: object) -> None:
    assert parse_cbor(bytes.fromhex(encoded), "t", 100) == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "t.cbor", id="nothing"),
        pytest.param(b"\x00\x00", "t.cbor", id="two items"),
        pytest.param(b"\x18", "t.cbor", id="half a head"),
        pytest.param(b"\x42a", "t.cbor", id="half a string"),
        pytest.param(b"\x1c", "t.cbor", id="a reserved length"),
        pytest.param(b"\x5f\x41a\xff", "t.cbor", id="an indefinite length"),
        pytest.param(b"\x9f\xff", "t.cbor", id="an indefinite array"),
        pytest.param(b"\x61\xff", "t.cbor", id="text that is none"),
        pytest.param(b"\xf5", "t.cbor", id="true"),
        pytest.param(b"\xf9\x00\x00", "t.cbor", id="a float"),
        pytest.param(b"\xa2\x01\x02\x01\x03", "t.cbor", id="a key twice"),
        pytest.param(b"\xa1\x41a\x00", "t.cbor", id="bytes for a key"),
        pytest.param(b"\x9b" + b"\xff" * 8, "t.cbor", id="an array without end"),
        pytest.param(b"\x81" * (MAX_DEPTH + 2), "t.depth", id="depth"),
        pytest.param(b"\x99\x04\x01" + bytes(MAX_ITEMS + 1), "t.items", id="items"),
        pytest.param(bytes(2001), "t.size", id="size"),
    ],
)
def test_everything_else_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_cbor(data, "t", 2000)
    assert refused.value.reason == reason


VALUES = st.recursive(
    st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(0, 2**32) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


def read(data: bytes) -> object:
    """The value, or the reason of the refusal."""
    try:
        return parse_cbor(data, "t", 1 << 16)
    except CcinitError as error:
        return error.reason


def test_limits_are_what_is_still_read() -> None:
    assert read(b"\x81" * MAX_DEPTH + b"\x00") != "t.depth"
    assert read(b"\x81" * (MAX_DEPTH + 1) + b"\x00") == "t.depth"
    for inner, found in ((MAX_ITEMS - 1, [0] * (MAX_ITEMS - 1)), (MAX_ITEMS, "t.items")):
        assert read(b"\x99" + inner.to_bytes(2, "big") + bytes(inner)) == found
    assert parse_cbor(b"\x42ab", "t", 3) == b"ab"
    with pytest.raises(LimitExceededError) as refused:
        parse_cbor(b"\x42ab", "t", 2)
    assert refused.value.reason == "t.size"


@given(value=VALUES)
def test_what_another_encoder_wrote_is_read(value: object) -> None:
    assert read(encode(value)) in (value, "t.depth")


@given(data=st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_refusal(data: bytes) -> None:
    read(data)  # raises nothing else
