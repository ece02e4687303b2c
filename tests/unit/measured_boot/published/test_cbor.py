import cbor2
import pytest

from measured_boot.published.cbor import CborValue, Tagged, encode_cbor


@pytest.mark.parametrize(
    ("value", "encoded"),
    [  # RFC 8949, appendix A
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (255, "18ff"),
        (256, "190100"),
        (1000000, "1a000f4240"),
        (1000000000000, "1b000000e8d4a51000"),
        ((1 << 64) - 1, "1bffffffffffffffff"),
        (b"", "40"),
        (bytes.fromhex("01020304"), "4401020304"),
        ("", "60"),
        ("IETF", "6449455446"),
        ("\u00fc", "62c3bc"),
        ([], "80"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        ({}, "a0"),
        ({1: 2, 3: 4}, "a201020304"),
        (Tagged(1, 1363896240), "c11a514b67b0"),
    ],
)
def test_encode_cbor_is_the_standards_example(value: CborValue, encoded: str) -> None:
    assert encode_cbor(value).hex() == encoded


def test_encode_cbor_sorts_keys_and_is_read_by_another_program() -> None:
    value: CborValue = {256: ["a" * 300, b"\0" * 70000], 3: Tagged(506, b"x"), 24: {0: 1}}
    assert list(cbor2.loads(encode_cbor(value))) == [3, 24, 256]
    assert encode_cbor(value) == cbor2.dumps(
        {3: cbor2.CBORTag(506, b"x"), 24: {0: 1}, 256: ["a" * 300, b"\0" * 70000]}
    )


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_encode_cbor_refuses_what_has_no_unsigned_form(value: int) -> None:
    with pytest.raises(ValueError, match="no unsigned encoding"):
        encode_cbor(value)
