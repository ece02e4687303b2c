"""Write CBOR, as much of it as a CoRIM needs, with one encoding for each value.

Specification: RFC 8949, sections 3.1 (major types) and 4.2.1 (deterministic encoding).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, Union

CborValue: TypeAlias = Union[
    int, bytes, str, Sequence["CborValue"], Mapping[int, "CborValue"], "Tagged"
]
"""What can be written; maps have unsigned integers as keys."""

_UNSIGNED, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = 0, 2, 3, 4, 5, 6
_WIDTHS: Final = ((0x18, 1), (0x19, 2), (0x1A, 4), (0x1B, 8))


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value with a tag's number."""

    number: int
    value: CborValue


def encode_cbor(value: CborValue) -> bytes:
    """Return the shortest encoding; keys of maps in ascending order.

    Raises:
        ValueError: an integer is negative or has more than 64 bits.
    """
    match value:
        case int():
            return _head(_UNSIGNED, value)
        case bytes():
            return _head(_BYTES, len(value)) + value
        case str():
            text = value.encode()
            return _head(_TEXT, len(text)) + text
        case Tagged(number=number, value=content):
            return _head(_TAG, number) + encode_cbor(content)
        case Mapping():
            rows = b"".join(
                _head(_UNSIGNED, key) + encode_cbor(value[key]) for key in sorted(value)
            )
            return _head(_MAP, len(value)) + rows
        case _:
            return _head(_ARRAY, len(value)) + b"".join(map(encode_cbor, value))


def _head(major: int, argument: int) -> bytes:
    if 0 <= argument < 24:
        return bytes([major << 5 | argument])
    for mark, width in _WIDTHS:
        if 0 <= argument < 1 << 8 * width:
            return bytes([major << 5 | mark]) + argument.to_bytes(width, "big")
    raise ValueError(f"{argument} has no unsigned encoding")
