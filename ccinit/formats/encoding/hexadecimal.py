"""Bytes as lower-case hex, in the one spelling that we would write ourselves."""

from ccinit.annotations import Final
from ccinit.errors import FormatError

HEX_DIGITS: Final = frozenset("0123456789abcdef")


def decode_hex(value: object, size_bytes: int, reason: str) -> bytes:
    """Decode exactly `size_bytes` bytes; upper case and spaces are refused.

    Raises:
        FormatError: with `reason`.
    """
    digits = 2 * size_bytes
    if not isinstance(value, str) or len(value) != digits or not HEX_DIGITS.issuperset(value):
        raise FormatError(reason, f"expected {digits} lower-case hex digits")
    return bytes.fromhex(value)
