"""MessagePack-RPC of the host plane: bytes to requests and replies, and back, without I/O.

Requests are `[0, msgid, method, params]`, replies `[1, msgid, error, result]`
(github.com/msgpack-rpc/msgpack-rpc, spec.md), one after another without separators. Both readers
take bytes in any pieces and return checked values. After an error no message boundary can be
trusted, so a reader that has raised is of no more use.

The guest refuses a bad *request* with `FormatError` and the reason `rpc.request`, the host a bad
*reply* with `rpc.reply`. Whether a request fits `host_rpc.METHODS` is checked by its caller
(`params_of`); a reply has to fit its method.
"""

import struct
from collections.abc import Iterator, Sequence

import msgpack  # type: ignore[import-untyped]

from ccinit.annotations import cast
from ccinit.errors import FormatError
from ccinit.formats.planes.host_rpc import Method, RpcError, Value, are_valid, is_valid
from ccinit.formats.planes.msgpack_stream import Caps, ValueReader
from ccinit.values import frozen

MAX_REQUEST_BYTES = 4096
MAX_DEPTH = 3
MAX_ITEMS = 64
_MAX_METHOD_BYTES = 64
_MAX_U32 = 0xFFFF_FFFF
_REQUEST_ITEMS = 4
_REPLY_ITEMS = 4
_ERROR_ITEMS = 2
_BIN8_MAX = 0xFF + 2
_BIN16_MAX = 0xFFFF + 3
_CAPS = Caps(
    waiting_bytes=MAX_REQUEST_BYTES,
    text_bytes=_MAX_METHOD_BYTES,
    binary_bytes=MAX_REQUEST_BYTES,
    depth=MAX_DEPTH,
    items=MAX_ITEMS,
)


@frozen
class Request:
    """A well-formed request; its method may be unknown and its parameters wrong."""

    msgid: int
    method: str
    params: tuple[object, ...]


@frozen
class Reply:
    """A reply that fits its method's schema; `result` is empty if `error` is set."""

    msgid: int
    error: RpcError | None
    result: tuple[Value, ...]


class RequestReader:
    """The guest's side: bytes in, requests out."""

    def __init__(self) -> None:
        self._values = ValueReader(_CAPS, "rpc.request")

    @property
    def unfinished(self) -> bool:
        """Whether a request has begun and is not complete."""
        return self._values.unfinished

    def feed(self, data: bytes) -> Iterator[Request]:
        """Take bytes and yield the requests that are now complete.

        Raises:
            LimitExceededError: `rpc.request`, more than 4 KiB without a complete request.
            FormatError: `rpc.request`.
        """
        for value in self._values.feed(data):
            yield _request(value)


class ReplyReader:
    """The host's side: bytes in, the reply to one method out."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._data = bytearray()

    def feed(self, data: bytes) -> Reply | None:
        """Take bytes; return the reply once all of its bytes are here.

        Raises:
            FormatError: `rpc.reply`.
        """
        self._data += data
        if len(self._data) < self._method.reply_bytes:
            return None
        if len(self._data) > self._method.reply_bytes:
            raise FormatError("rpc.reply", "bytes behind the reply")
        # Arrays are allocated by the count in their head, so the cap is what a reply can have.
        items = max(_REPLY_ITEMS, len(self._method.result) + 1)
        try:
            value = msgpack.unpackb(
                bytes(self._data), raw=False, max_array_len=items, max_map_len=0, max_ext_len=0
            )
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise FormatError("rpc.reply", "not one MessagePack value") from error
        return _reply(self._method, value)


def encode_request(msgid: int, method: str, params: Sequence[Value]) -> bytes:
    """Encode a request."""
    return cast("bytes", msgpack.packb([0, msgid, method, list(params)], use_bin_type=True))


def encode_result(msgid: int, method: Method, result: Sequence[Value]) -> bytes:
    """Encode `[1, msgid, nil, [..., pad]]`, `method.reply_bytes` long.

    Raises:
        ValueError: the result does not fit the method's schema (a bug of the caller).
    """
    if not are_valid(method.result, result):
        raise ValueError(f"result of {method.name} is not of its schema")
    head = b"\x94\x01" + _pack(msgid) + b"\xc0" + _array_header(len(result) + 1)
    head += b"".join(_pack(value) for value in result)
    return head + _pad(method.reply_bytes - len(head))


def encode_error(msgid: int, reply_bytes: int, error: RpcError) -> bytes:
    """Encode `[1, msgid, [code, pad], nil]`, `reply_bytes` long."""
    head = b"\x94\x01" + _pack(msgid) + b"\x92" + _pack(int(error))
    return head + _pad(reply_bytes - len(head) - 1) + b"\xc0"


def params_of(method: Method, params: tuple[object, ...]) -> tuple[Value, ...] | None:
    """Return the parameters if they fit the method's schema, else None."""
    return cast("tuple[Value, ...]", params) if are_valid(method.params, params) else None


def _request(value: object) -> Request:
    if not isinstance(value, tuple) or len(value) != _REQUEST_ITEMS:
        raise FormatError("rpc.request", "not [0, msgid, method, params]")
    kind, msgid, method, params = value
    if type(kind) is not int or kind != 0 or type(msgid) is not int or not 0 <= msgid <= _MAX_U32:
        raise FormatError("rpc.request", "not a request with a 32-bit msgid")
    if not isinstance(method, str) or not isinstance(params, tuple):
        raise FormatError("rpc.request", "method is not a string or params not an array")
    return Request(msgid=msgid, method=method, params=params)


def _reply(method: Method, value: object) -> Reply:
    if not isinstance(value, list) or len(value) != _REPLY_ITEMS:
        raise FormatError("rpc.reply", "not [1, msgid, error, result]")
    kind, msgid, error, result = value
    if type(kind) is not int or kind != 1:
        raise FormatError("rpc.reply", "not [1, msgid, error, result]")
    if type(msgid) is not int or (error is None) == (result is None):
        raise FormatError("rpc.reply", "no msgid, or not exactly one of error and result")
    if error is not None:
        return Reply(msgid=msgid, error=_error_code(error), result=())
    if not isinstance(result, list) or len(result) != len(method.result) + 1:
        raise FormatError("rpc.reply", f"{method.name} returns another number of values")
    for field, item in zip(method.result, result, strict=False):
        if not is_valid(field.kind, item):
            raise FormatError("rpc.reply", f"{method.name}: {field.name} is not {field.kind}")
    _check_pad(result[-1])
    return Reply(msgid=msgid, error=None, result=tuple(result[:-1]))


def _error_code(error: object) -> RpcError:
    if not isinstance(error, list) or len(error) != _ERROR_ITEMS or type(error[0]) is not int:
        raise FormatError("rpc.reply", "not [code, pad]")
    _check_pad(error[1])
    try:
        return RpcError(error[0])
    except ValueError as unknown:
        raise FormatError("rpc.reply", f"error {error[0]}") from unknown


def _check_pad(pad: object) -> None:
    """Check that a pad is zero bytes; others would carry what the schema does not allow."""
    if not isinstance(pad, bytes) or pad.strip(b"\0"):
        raise FormatError("rpc.reply", "a pad that is not zero bytes")


def _pack(value: Value) -> bytes:
    return cast("bytes", msgpack.packb(value, use_bin_type=True))


def _array_header(count: int) -> bytes:
    return bytes((0x90 | count,))


def _pad(size: int) -> bytes:
    """Return a bin object of exactly `size` bytes, header included."""
    if size <= _BIN8_MAX:
        return struct.pack(">BB", 0xC4, size - 2) + bytes(size - 2)
    if size <= _BIN16_MAX:
        return struct.pack(">BH", 0xC5, size - 3) + bytes(size - 3)
    return struct.pack(">BI", 0xC6, size - 5) + bytes(size - 5)
