"""Messages of the owner plane as bytes, for both ends.

    request       [0, msgid, method, params]
    reply         [1, msgid, nil, result]  or  [1, msgid, [code, reason, detail], nil]
    notification  [2, "data", [id, fd, bin]]  or  [2, "credit", [id, n]]

Messages follow one another without separators. The same strict reader serves both ends; which
messages an end may send in which state is left to the session. A reply's error carries the guest's
dotted reason, since only the owner can read it.
"""

from collections.abc import Iterator, Sequence
from typing import Final, cast

import msgpack  # type: ignore[import-untyped]

from ccinit.errors import FormatError
from ccinit.formats.planes.host_rpc import BinaryUpTo, RpcError, Uint
from ccinit.formats.planes.msgpack_stream import Caps, ValueReader
from ccinit.formats.planes.owner_rpc import (
    MAX_ARGUMENTS,
    MAX_EVIDENCE_BYTES,
    MAX_PATH_BYTES,
    WINDOW_BYTES,
    Field,
    Method,
    Text,
    Value,
    are_valid,
)
from ccinit.formats.sealed_log import MAX_SOURCE_BYTES
from ccinit.formats.sealed_log import Kind as LogKind
from ccinit.values import frozen

MAX_REASON_BYTES: Final = 64
MAX_DETAIL_BYTES: Final = 1024
_MAX_U32: Final = 0xFFFF_FFFF

_TEXT_HEAD_BYTES: Final = 3  # MessagePack's header of a text of that length
# A request's arguments and a full window of data may arrive together.
_TO_GUEST: Final = Caps(
    waiting_bytes=MAX_ARGUMENTS * (MAX_PATH_BYTES + _TEXT_HEAD_BYTES) + 2 * WINDOW_BYTES,
    text_bytes=MAX_PATH_BYTES,
    binary_bytes=WINDOW_BYTES,
)
_TO_OWNER: Final = Caps(
    waiting_bytes=2 * MAX_EVIDENCE_BYTES,
    text_bytes=MAX_PATH_BYTES,
    binary_bytes=MAX_EVIDENCE_BYTES,
    nil=True,
)
_MAX_ENTRY_BYTES: Final = 2 << 20
_ENTRY_CAPS: Final = Caps(
    waiting_bytes=2 * _MAX_ENTRY_BYTES,
    text_bytes=MAX_SOURCE_BYTES,
    binary_bytes=_MAX_ENTRY_BYTES,
    depth=1,
    items=5,
)
_ENTRY: Final = (
    Field("sequence", Uint(64)),
    Field("boottime_us", Uint(64)),
    Field("kind", Uint(8)),
    Field("source", Text(MAX_SOURCE_BYTES)),
    Field("data", BinaryUpTo(_MAX_ENTRY_BYTES)),
)


@frozen
class Request:
    """A call; its method may be unknown, and its parameters wrong (`params_of`)."""

    msgid: int
    method: str
    params: tuple[object, ...]


@frozen
class Refused:
    """Why a call was not carried out, or ended badly."""

    code: RpcError
    reason: str
    detail: str


@frozen
class Reply:
    """The end of a call; `result` is checked by `result_of`."""

    msgid: int
    outcome: Refused | tuple[object, ...]


@frozen
class Data:
    """Bytes of a call's stream; no bytes are the end of that fd."""

    id: int
    fd: int
    content: bytes


@frozen
class Credit:
    """How many more bytes the other side may send."""

    id: int
    count: int


Message = Request | Reply | Data | Credit


@frozen
class LogLine:
    """One entry of the streams of `logs` and `events`; see `ccinit.seal.recent`."""

    sequence: int
    boottime_us: int
    kind: LogKind
    source: str
    data: bytes


class MessageReader:
    """Bytes in, messages of the other end out."""

    def __init__(self, *, of_guest: bool) -> None:
        """Args: of_guest: whether the guest is the reader."""
        self._values = ValueReader(_TO_GUEST if of_guest else _TO_OWNER, "owner.message")
        self._of_guest = of_guest

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and is not complete."""
        return self._values.unfinished

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes and yield the messages that are now complete.

        Raises:
            LimitExceededError, FormatError: `owner.message`; the connection is of no more use.
        """
        for value in self._values.feed(data):
            yield self._message(value)

    def _message(self, value: object) -> Message:
        match value:
            case (bool(), *_):  # to Python `True` is 1
                raise FormatError("owner.message", "no message of this plane")
            case (int(0), int(msgid), str(method), tuple(params)) if self._of_guest:
                return Request(msgid=_number(msgid), method=method, params=params)
            case (int(1), int(msgid), error, result) if not self._of_guest:
                return Reply(msgid=_number(msgid), outcome=_outcome(error, result))
            case (int(2), "data", (int(call), int(fd), bytes(content))):
                if len(content) > WINDOW_BYTES:
                    raise FormatError("owner.message", "more data than any credit")
                return Data(id=_number(call), fd=_number(fd), content=content)
            case (int(2), "credit", (int(call), int(count))):
                return Credit(id=_number(call), count=_number(count))
            case _:
                raise FormatError("owner.message", "no message of this plane")


class LogLineReader:
    """Cuts the stream of `logs` or `events` into entries."""

    def __init__(self) -> None:
        self._values = ValueReader(_ENTRY_CAPS, "owner.entry")

    def finish(self) -> None:
        """Take the end of the stream.

        Raises:
            FormatError: `owner.entry`, the last entry is incomplete.
        """
        if self._values.unfinished:
            raise FormatError("owner.entry", "the last entry is cut off")

    def feed(self, data: bytes) -> Iterator[LogLine]:
        """Take bytes and yield the entries that are now complete.

        Raises:
            LimitExceededError, FormatError: `owner.entry`.
        """
        for value in self._values.feed(data):
            yield _log_line(value)


def _log_line(value: object) -> LogLine:
    if not isinstance(value, tuple) or not are_valid(_ENTRY, value):
        raise FormatError("owner.entry", "not an entry")
    sequence, boottime_us, kind, source, data = value
    try:
        known = LogKind(kind)
    except ValueError as error:
        raise FormatError("owner.entry", f"kind {kind}") from error
    return LogLine(sequence=sequence, boottime_us=boottime_us, kind=known, source=source, data=data)


def encode_request(msgid: int, method: str, params: Sequence[Value]) -> bytes:
    """Encode a call."""
    return _pack([0, msgid, method, list(params)])


def encode_result(method: Method, result: tuple[Value, ...]) -> bytes:
    """Encode a result alone, for `encode_reply`.

    Raises:
        ValueError: it does not fit the method's schema (a bug of the caller).
    """
    if not are_valid(method.result, result):
        raise ValueError(f"result of {method.name} is not of its schema")
    return _pack(list(result))


def encode_reply(msgid: int, result: bytes) -> bytes:
    """Encode the reply to a call that succeeded, around an encoded result."""
    return b"\x94\x01" + _pack(msgid) + b"\xc0" + result


def encode_refusal(msgid: int, refused: Refused) -> bytes:
    """Encode the reply to a call that failed; texts are cut to size."""
    reason = _cut(refused.reason, MAX_REASON_BYTES)
    detail = _cut(refused.detail, MAX_DETAIL_BYTES)
    return _pack([1, msgid, [int(refused.code), reason, detail], None])


def encode_data(data: Data) -> bytes:
    """Encode bytes of a stream."""
    return _pack([2, "data", [data.id, data.fd, data.content]])


def encode_credit(credit: Credit) -> bytes:
    """Encode a grant of credit."""
    return _pack([2, "credit", [credit.id, credit.count]])


def encode_log_line(line: LogLine) -> bytes:
    """Encode one entry of a log stream."""
    return _pack([line.sequence, line.boottime_us, int(line.kind), line.source, line.data])


def params_of(method: Method, params: tuple[object, ...]) -> tuple[Value, ...] | None:
    """Return the parameters if they fit the method's schema, else None."""
    return cast("tuple[Value, ...]", params) if are_valid(method.params, params) else None


def result_of(method: Method, outcome: tuple[object, ...]) -> tuple[Value, ...]:
    """Return the result if it fits the method's schema.

    Raises:
        FormatError: `owner.result`.
    """
    if not are_valid(method.result, outcome):
        raise FormatError("owner.result", f"{method.name} returned something else")
    return cast("tuple[Value, ...]", outcome)


def _outcome(error: object, result: object) -> Refused | tuple[object, ...]:
    match error, result:
        case None, tuple():
            return result
        case (int(code), str(reason), str(detail)), None:
            if not (_fits(reason, MAX_REASON_BYTES) and _fits(detail, MAX_DETAIL_BYTES)):
                raise FormatError("owner.message", "an error with too much to say")
            try:
                return Refused(code=RpcError(_number(code)), reason=reason, detail=detail)
            except ValueError as wrong:
                raise FormatError("owner.message", f"error {code}") from wrong
        case _:
            raise FormatError("owner.message", "neither an error nor a result")


def _number(value: int) -> int:
    if isinstance(value, bool) or not 0 <= value <= _MAX_U32:
        raise FormatError("owner.message", "not a 32-bit number")
    return value


def _fits(text: str, most: int) -> bool:
    return len(text.encode()) <= most


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")


def _pack(value: object) -> bytes:
    return cast("bytes", msgpack.packb(value, use_bin_type=True))
