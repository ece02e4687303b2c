"""MessagePack values out of a byte stream, under caps; host and owner plane both use it.

A reader takes bytes in any pieces and yields plain values: arrays as tuples, integers, bools, bins,
strings, and nil if its caps allow that. Maps, ext values and floats are refused. After an error no
boundary between values can be trusted, so a reader that has raised stays broken.
"""

from collections.abc import Iterator

import msgpack  # type: ignore[import-untyped]

from ccinit.errors import FormatError, LimitExceededError
from ccinit.values import frozen

_PLAIN = int | bytes | str


@frozen
class Caps:
    """Limits of what a peer may send.

    Attributes:
        waiting_bytes: taken, but not yet part of a complete value.
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
    """Bytes in, checked values out; `reason` is the reason of all errors."""

    def __init__(self, caps: Caps, reason: str) -> None:
        self._caps = caps
        self._reason = reason
        self._unpacker = _unpacker(caps)
        self._fed = 0  # offset after the last byte taken
        self._parsed = 0  # offset after the last complete value
        self._broken = False

    @property
    def unfinished(self) -> bool:
        """Whether a value has begun and is not complete."""
        return self._fed > self._parsed

    def feed(self, data: bytes) -> Iterator[object]:
        """Take bytes and yield the values that are now complete.

        Raises:
            LimitExceededError: more than `caps.waiting_bytes` without a complete value.
            FormatError: not MessagePack, or a value that the caps do not allow.
        """
        if self._broken:
            raise FormatError(self._reason, "the stream is broken")
        self._broken = True  # until this call has succeeded
        for value in self._values(data):
            if not self._is_plain(value, 1):
                raise FormatError(self._reason, "not plain values")
            yield value
        self._broken = False

    def _values(self, data: bytes) -> Iterator[object]:
        """Yield complete values; what a peer sends ahead is not waiting while it can be parsed."""
        rest = memoryview(data)
        while rest:
            room_bytes = self._caps.waiting_bytes - (self._fed - self._parsed)
            if not room_bytes:
                raise LimitExceededError(
                    self._reason, f"more than {self._caps.waiting_bytes} bytes waiting"
                )
            piece, rest = rest[:room_bytes], rest[room_bytes:]
            self._fed += len(piece)
            self._unpacker.feed(piece)
            yield from self._complete_values()

    def _complete_values(self) -> Iterator[object]:
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
