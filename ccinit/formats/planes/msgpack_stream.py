"""MessagePack values out of a byte stream, under caps: what both planes read first.

A reader takes bytes in any pieces and yields plain values: arrays as tuples, integers, bools, bins
and strings, and nil where its caps say so. Maps, ext values and floats do not exist here. A reader
that has raised stays broken: on a stream there is no next boundary to trust.
"""

from collections.abc import Iterator

import msgpack  # type: ignore[import-untyped]

from ccinit.errors import FormatError, LimitExceededError
from ccinit.values import frozen

_PLAIN = int | bytes | str


@frozen
class Caps:
    """How much a peer may say before it makes sense.

    Attributes:
        waiting_bytes: taken, and not yet part of a complete value.
        depth: arrays within arrays.
        items: of one array.
        nil: whether nil may occur.
    """

    waiting_bytes: int
    text_bytes: int
    binary_bytes: int
    depth: int = 3
    items: int = 64
    nil: bool = False


class ValueReader:
    """Bytes in, checked values out; errors carry the reason it was made with."""

    def __init__(self, caps: Caps, reason: str) -> None:
        self._caps = caps
        self._reason = reason
        self._unpacker = _unpacker(caps)
        self._fed = 0  # offset behind the last byte taken
        self._parsed = 0  # offset behind the last complete value
        self._broken = False

    @property
    def unfinished(self) -> bool:
        """Whether the first part of a value waits for the rest."""
        return self._fed > self._parsed

    def feed(self, data: bytes) -> Iterator[object]:
        """Take bytes and yield the values that are now complete.

        Raises:
            LimitExceededError: more bytes waiting than allowed.
            FormatError: not MessagePack, or not plain.
        """
        if self._broken:
            raise FormatError(self._reason, "the stream is broken")
        self._broken = True  # until this call has ended well
        for value in self._values(data):
            if not self._is_plain(value, 1):
                raise FormatError(self._reason, "not plain values")
            yield value
        self._broken = False

    def _values(self, data: bytes) -> Iterator[object]:
        self._fed += len(data)
        if self._fed - self._parsed > self._caps.waiting_bytes:
            raise LimitExceededError(
                self._reason, f"more than {self._caps.waiting_bytes} bytes waiting"
            )
        self._unpacker.feed(data)
        while True:
            try:
                value = self._unpacker.unpack()
            except msgpack.OutOfData:
                return
            except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
                raise FormatError(self._reason, "not MessagePack within the limits") from error
            self._parsed = self._unpacker.tell()
            yield value

    def _is_plain(self, value: object, depth: int) -> bool:
        if type(value) is tuple:  # an ext value is a named tuple
            return depth <= self._caps.depth and all(
                self._is_plain(item, depth + 1) for item in value
            )
        return isinstance(value, _PLAIN) or (value is None and self._caps.nil)


def _unpacker(caps: Caps) -> "msgpack.Unpacker":
    return msgpack.Unpacker(
        raw=False,
        use_list=False,
        max_buffer_size=caps.waiting_bytes,
        max_str_len=caps.text_bytes,
        max_bin_len=caps.binary_bytes,
        max_array_len=caps.items,
        max_map_len=0,
        max_ext_len=0,
    )
