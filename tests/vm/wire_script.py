"""The host plane's bytes written by hand, from the MessagePack specification alone.

An implementation that shares nothing with the guest's: no library, and of the project only the
names and numbers of DESIGN section 6. Encodings are the spec's shortest ones unless a test spells
out others itself.
"""

import socket
import struct
from dataclasses import dataclass

REPLY_BYTES = 64
COLLECT_REPLY_BYTES = 65_664
READ_SECONDS = 30.0

BADREQ, NOT_NOW, DENIED = 1, 2, 4
NIL = b"\xc0"

Item = int | bytes | bool | str | list["Item"]


def encode(item: Item) -> bytes:
    """Encode an integer (not negative), bin, bool, str or array in its shortest form."""
    match item:
        case bool():
            return b"\xc3" if item else b"\xc2"
        case int():
            return encode_uint(item)
        case bytes():
            return encode_bin(item)
        case str():
            text = item.encode()
            head = bytes((0xA0 | len(text),)) if len(text) < 32 else b"\xd9" + bytes((len(text),))
            return head + text
        case list():
            count = len(item)
            head = bytes((0x90 | count,)) if count < 16 else b"\xdc" + struct.pack(">H", count)
            return head + b"".join(map(encode, item))


def encode_uint(number: int) -> bytes:
    if number < 1 << 7:
        return bytes((number,))
    for width, code in ((1, b"\xcc"), (2, b"\xcd"), (4, b"\xce"), (8, b"\xcf")):
        if number < 1 << (8 * width):
            return code + number.to_bytes(width, "big")
    raise ValueError(number)


def encode_bin(data: bytes) -> bytes:
    for width, code in ((1, b"\xc4"), (2, b"\xc5"), (4, b"\xc6")):
        if len(data) < 1 << (8 * width):
            return code + len(data).to_bytes(width, "big") + data
    raise ValueError(len(data))


def request(method: str, *params: Item, msgid: int = 1) -> bytes:
    """`[0, msgid, method, params]`."""
    return b"\x94\x00" + encode_uint(msgid) + encode(method) + encode(list(params))


def result(*values: Item, msgid: int = 1) -> bytes:
    """`[1, msgid, nil, [values…, pad]]` of 64 bytes."""
    head = b"\x94\x01" + encode_uint(msgid) + NIL + bytes((0x90 | (len(values) + 1),))
    head += b"".join(map(encode, values))
    return head + _pad(REPLY_BYTES - len(head))


def refusal(code: int, msgid: int = 1, size: int = REPLY_BYTES) -> bytes:
    """`[1, msgid, [code, pad], nil]`."""
    head = b"\x94\x01" + encode_uint(msgid) + b"\x92" + encode_uint(code)
    return head + _pad(size - len(head) - 1) + NIL


def _pad(size: int) -> bytes:
    for head in (2, 3, 5):
        if len(pad := encode_bin(bytes(size - head))) == size:
            return pad
    raise ValueError(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    phase: int
    code: int
    seq: int
    flags: int


def decode_state(reply: bytes) -> State:
    """Read the reply of `state` or `wait` with msgid 1; every byte of it is accounted for."""
    assert reply[:5] == b"\x94\x01\x01\xc0\x95"
    values, offset = [], 5
    for _ in range(4):
        value, offset = take_uint(reply, offset)
        values.append(value)
    phase, code, seq, flags = values
    assert reply == result(phase, code, seq, flags)
    return State(phase=phase, code=code, seq=seq, flags=flags)


def take_uint(data: bytes, offset: int) -> tuple[int, int]:
    """Return the unsigned integer at `offset`, of any width, and the offset behind it."""
    first = data[offset]
    if first < 0x80:
        return first, offset + 1
    width = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}[first]
    end = offset + 1 + width
    return int.from_bytes(data[offset + 1 : end], "big"), end


def read_exactly(stream: socket.socket, size: int) -> bytes:
    """Read `size` bytes; fewer if the peer closes first."""
    stream.settimeout(READ_SECONDS)
    data = bytearray()
    while len(data) < size and (piece := stream.recv(size - len(data))):
        data += piece
    return bytes(data)


def read_to_the_end(stream: socket.socket, seconds: float = READ_SECONDS) -> bytes:
    """Read until the peer closes, an abrupt close included."""
    stream.settimeout(seconds)
    data = bytearray()
    try:
        while piece := stream.recv(65_536):
            data += piece
    except ConnectionResetError:
        pass
    return bytes(data)


def ask(stream: socket.socket, message: bytes, size: int = REPLY_BYTES) -> bytes:
    """Send bytes and read one reply."""
    stream.sendall(message)
    return read_exactly(stream, size)


def say_all(stream: socket.socket, message: bytes) -> bytes:
    """Send bytes, say that nothing follows, and return everything that comes back."""
    try:
        stream.sendall(message)
        stream.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # closed in the middle of our words, which is an answer too
    return read_to_the_end(stream)


def cut_replies(data: bytes) -> tuple[bytes, ...]:
    """Cut what came back into replies, which all have one size."""
    assert len(data) % REPLY_BYTES == 0, f"{len(data)} bytes are not whole replies"
    starts = range(0, len(data), REPLY_BYTES)
    return tuple(data[start : start + REPLY_BYTES] for start in starts)
