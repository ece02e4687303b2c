"""What a MessagePack value claims to hold, found before anything is made of it.

A reader creates a value's parts as it decodes them, and allocates an array as soon as it sees its
header: a text of one character takes two bytes in the message and 80 in memory, and nested arrays
are all allocated before any is complete. Format: github.com/msgpack/msgpack, spec.md.
"""

from collections.abc import Iterator

from ccinit.annotations import Final
from ccinit.errors import FormatError

_IN_HEAD: Final = (*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3)
"""Heads that are a whole value: small integers, nil and truth values."""

_NUMBER_BYTES: Final = {
    **dict.fromkeys(_IN_HEAD, 0),
    **dict.fromkeys((0xCC, 0xD0), 1),
    **dict.fromkeys((0xCD, 0xD1), 2),
    **dict.fromkeys((0xCE, 0xD2, 0xCA), 4),
    **dict.fromkeys((0xCF, 0xD3, 0xCB), 8),
}
_SHORT_ARRAYS: Final = {0x90 + length: length for length in range(16)}
_SHORT_TEXTS: Final = {0xA0 + length: length for length in range(32)}
_LONG_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
_LONG_BYTES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}

_KNOWN: Final = _NUMBER_BYTES | _SHORT_ARRAYS | _SHORT_TEXTS
"""How much follows a head without a length field: items of an array, else bytes."""

_LENGTH_BYTES: Final = _LONG_ARRAYS | _LONG_BYTES
_ARRAYS: Final = _SHORT_ARRAYS.keys() | _LONG_ARRAYS.keys()


def claimed_items(data: bytes) -> Iterator[int]:
    """Yield the item count in each array's head within the first value, which may be cut off.

    Raises:
        FormatError: `wire.form`, a map or an extension.
    """
    position, left = 0, 1
    while left and position < len(data):
        left -= 1
        head = data[position]
        position += 1
        if width := _LENGTH_BYTES.get(head, 0):
            length = int.from_bytes(data[position : position + width], "big")
            position += width
        elif head in _KNOWN:
            length = _KNOWN[head]
        else:
            raise FormatError("wire.form", f"a map or an extension (0x{head:02x})")
        if head in _ARRAYS:
            left += length
            yield length
        else:
            position += length
