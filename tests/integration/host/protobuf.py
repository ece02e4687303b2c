"""Messages of Protocol Buffers by their fields' numbers: all that a gRPC client of tests needs.

Wire format: protobuf.dev, "Encoding"; varints and what is as long as it says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Value: TypeAlias = int | str | bytes | Mapping[int, Any] | Sequence[Any]
"""Of a field: an integer, what is as long as it says, or several of either."""

_VARINT, _LENGTH = 0, 2


def encode(message: Mapping[int, Value]) -> bytes:
    """Write a message; a sequence is a repeated field."""
    return b"".join(_encode_field(number, value) for number, value in message.items())


def encode_map(pairs: Mapping[str, str]) -> Sequence[Value]:
    """A field of type `map<string, string>`."""
    return [{1: key, 2: value} for key, value in pairs.items()]


@dataclass(frozen=True, slots=True)
class Message:
    """What was read: fields by their numbers, in the order in which they came."""

    fields: Mapping[int, Sequence[int | bytes]] = field(default_factory=dict)

    def number(self, number: int) -> int:
        """An integer, 0 if it is not there."""
        (*_before, value) = self.fields.get(number, [0])
        assert isinstance(value, int)
        return value

    def text(self, number: int) -> str:
        """A string, empty if it is not there."""
        (*_before, value) = self.fields.get(number, [b""])
        assert isinstance(value, bytes)
        return value.decode()

    def messages(self, number: int) -> Iterator["Message"]:
        """Every message of a repeated field."""
        for value in self.fields.get(number, ()):
            assert isinstance(value, bytes)
            yield decode(value)

    def message(self, number: int) -> "Message":
        """One message, empty if it is not there."""
        return next(self.messages(number), Message())


def decode(data: bytes) -> Message:
    """Read a message."""
    fields: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        assert key & 7 in {_VARINT, _LENGTH}, "a type of field that no message here has"
        if key & 7 == _LENGTH:
            fields.setdefault(key >> 3, []).append(data[at : at + value])
            at += value
        else:
            fields.setdefault(key >> 3, []).append(value)
    return Message(fields)


def _encode_field(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    if isinstance(value, str):
        value = value.encode()
    elif isinstance(value, Mapping):
        value = encode(value)
    elif not isinstance(value, bytes):
        return b"".join(_encode_field(number, one) for one in value)
    return _varint(number << 3 | _LENGTH) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes((*written, value))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 128:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1
