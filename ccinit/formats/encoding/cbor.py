"""CBOR (RFC 8949), the part of it that attestation tokens use.

Accepted are unsigned and negative integers, byte and text strings, arrays, maps and tags, of
definite length and bounded depth. What the values mean is left to the caller.
"""

from collections.abc import Mapping
from typing import TypeAlias

from ccinit.errors import FormatError, LimitExceededError
from ccinit.values import frozen

MAX_DEPTH = 8
MAX_ITEMS = 1024


@frozen(kw_only=False)
class Tagged:
    """A value and the number of its tag."""

    tag: int
    value: "CborValue"


CborValue: TypeAlias = (
    int | bytes | str | list["CborValue"] | Mapping[int | str, "CborValue"] | Tagged
)

_ARGUMENT_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}


def parse_cbor(data: bytes, where: str, max_bytes: int) -> CborValue:
    """Read exactly one item.

    Args:
        data: untrusted.
        where: prefix of the reasons.
        max_bytes: longer data is refused unread.

    Raises:
        LimitExceededError: `<where>.size`, `<where>.depth`, `<where>.items`.
        FormatError: `<where>.cbor`.
    """
    if len(data) > max_bytes:
        raise LimitExceededError(
            f"{where}.size", f"expected at most {max_bytes} bytes, found {len(data)}"
        )
    reader = _Reader(data, where)
    value = reader.item(MAX_DEPTH)
    reader.end()
    return value


class _Reader:
    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where
        self._offset = 0
        self._items = 0

    def item(self, depth: int) -> CborValue:
        """Take one item; `depth` levels may be below it."""
        self._count(depth)
        major, argument = self._head()
        match major:
            case 0:
                return argument
            case 1:
                return -1 - argument
            case 2:
                return self._take(argument)
            case 3:
                return self._text(argument)
            case 4:
                return [self.item(depth - 1) for _ in range(argument)]
            case 5:
                return self._map(argument, depth - 1)
            case 6:
                return Tagged(argument, self.item(depth - 1))
            case _:
                raise self._error("a simple value or a float")

    def end(self) -> None:
        """Refuse what is left."""
        if self._offset != len(self._data):
            raise self._error(f"{len(self._data) - self._offset} bytes too many")

    def _count(self, depth: int) -> None:
        self._items += 1
        if depth < 0:
            raise LimitExceededError(f"{self._where}.depth", f"deeper than {MAX_DEPTH}")
        if self._items > MAX_ITEMS:
            raise LimitExceededError(f"{self._where}.items", f"more than {MAX_ITEMS}")

    def _head(self) -> tuple[int, int]:
        """Take the major type and the argument of an item (section 3)."""
        first = self._take(1)[0]
        major, short = first >> 5, first & 0x1F
        if short < 24:
            return major, short
        if short not in _ARGUMENT_BYTES:
            raise self._error("an indefinite length, or a reserved one")
        return major, int.from_bytes(self._take(_ARGUMENT_BYTES[short]), "big")

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise self._error("text that is not UTF-8") from error

    def _map(self, length: int, depth: int) -> Mapping[int | str, CborValue]:
        found: dict[int | str, CborValue] = {}
        for _ in range(length):
            key = self.item(depth)
            if not isinstance(key, int | str) or key in found:
                raise self._error("a key that is no number or text, or a second time there")
            found[key] = self.item(depth)
        return found

    def _take(self, length: int) -> bytes:
        end = self._offset + length
        if end > len(self._data):
            raise self._error("bytes are missing")
        data = self._data[self._offset : end]
        self._offset = end
        return data

    def _error(self, detail: str) -> FormatError:
        return FormatError(f"{self._where}.cbor", detail)
