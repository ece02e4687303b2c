"""The host plane's schema and framing.

Invariant: bytes in any pieces become requests of the schema or a `FormatError`; every reply of a
method has one size and carries no text.
"""

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.planes.host_rpc import (
    METHODS,
    Binary,
    BinaryUpTo,
    Boolean,
    Field,
    Kind,
    ListUpTo,
    Method,
    Phase,
    RpcError,
    Uint,
    Value,
    is_valid,
)
from ccinit.formats.planes.msgpack_rpc import (
    MAX_REQUEST_BYTES,
    Reply,
    ReplyReader,
    Request,
    RequestReader,
    encode_error,
    encode_request,
    encode_result,
    params_of,
)

MSGIDS = (0, 0x7F, 0xFF, 0xFFFF, 0xFFFF_FFFF)


def extremes(kind: Kind) -> tuple[Value, ...]:
    match kind:
        case Uint(bits):
            return 0, (1 << bits) - 1
        case Binary(length):
            return (bytes(length),)
        case BinaryUpTo(length):
            return b"", bytes(length)
        case Boolean():
            return False, True
        case ListUpTo(length, count):
            return (), (bytes(length),) * count


def results(method: Method) -> list[tuple[Value, ...]]:
    return [tuple(extremes(field.kind)[index] for field in method.result) for index in (0, -1)]


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_reply_of_a_method_has_one_size_and_reads_back(method: Method) -> None:
    for msgid in MSGIDS:
        for result in results(method):
            data = encode_result(msgid, method, result)
            assert len(data) == method.reply_bytes
            reply = ReplyReader(method).feed(data)
            assert reply is not None
            assert (reply.msgid, reply.error, reply.result) == (msgid, None, result)
        for error in RpcError:
            data = encode_error(msgid, method.reply_bytes, error)
            assert len(data) == method.reply_bytes
            reply = ReplyReader(method).feed(data)
            assert reply is not None
            assert reply.error is error


def test_no_kind_of_the_schema_can_hold_text() -> None:
    for method in METHODS.values():
        for field in (*method.params, *method.result):
            assert not is_valid(field.kind, "text")


def test_every_method_says_why_it_does_not_leak_and_is_closed_before_listen() -> None:
    for method in METHODS.values():
        assert method.leak
        assert not method.phases & {Phase.ENTRY, Phase.MOUNT, Phase.HARDEN}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Uint(8), 256), (Uint(8), -1), (Uint(8), True), (Uint(8), 1.0),
        (Binary(2), b"x"), (Binary(2), b"xxx"), (BinaryUpTo(2), b"xxx"), (Boolean(), 1),
        (ListUpTo(1, 1), (b"x", b"x")), (ListUpTo(1, 1), (b"xx",)), (ListUpTo(1, 1), b"x"),
        (Binary(2), "xx"), (BinaryUpTo(2), "xx"), (ListUpTo(1, 1), ("x",)), (ListUpTo(1, 1), b""),
    ],
)  # fmt: skip
def test_value_outside_its_kind_is_invalid(kind: Kind, value: object) -> None:
    assert not is_valid(kind, value)
    assert all(is_valid(kind, item) for item in extremes(kind))


def test_request_is_read_whole_and_byte_by_byte() -> None:
    data = encode_request(7, "wait", (1, 2)) + encode_request(8, "state", ())
    expected = [
        Request(msgid=7, method="wait", params=(1, 2)),
        Request(msgid=8, method="state", params=()),
    ]
    assert list(RequestReader().feed(data)) == expected
    reader = RequestReader()
    seen: list[Request] = []
    for byte in data:
        seen += reader.feed(bytes((byte,)))
    assert seen == expected
    assert not reader.unfinished


def test_request_integers_may_have_any_legal_width() -> None:
    wide = b"\x94\xcf" + bytes(8) + b"\xce\x00\x00\x00\x05" + b"\xa5state" + b"\xdc\x00\x00"
    assert list(RequestReader().feed(wide)) == [Request(msgid=5, method="state", params=())]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([1, 1, "state", []], id="a-reply"),
        pytest.param([0, 1, "state"], id="short"),
        pytest.param([0, 1, "state", [], 0], id="long"),
        pytest.param([0, -1, "state", []], id="negative-msgid"),
        pytest.param([0, 1 << 32, "state", []], id="wide-msgid"),
        pytest.param([False, 1, "state", []], id="bool-kind"),
        pytest.param([0, 1, b"state", []], id="bin-method"),
        pytest.param([0, 1, "m" * 65, []], id="long-method"),
        pytest.param([0, 1, "state", {}], id="map"),
        pytest.param([0, 1, "state", [1.0]], id="float"),
        pytest.param([0, 1, "state", [None]], id="nil"),
        pytest.param([0, 1, "state", [[[1]]]], id="depth-4"),
        pytest.param([0, 1, "state", [1] * 65], id="items"),
        pytest.param([0, 1, "state", [msgpack.ExtType(1, b"")]], id="ext"),
        pytest.param([0, 1, "state", [msgpack.Timestamp(0)]], id="timestamp"),
        pytest.param(5, id="no-array"),
        pytest.param([0, True, "state", []], id="msgid-is-bool"),
        pytest.param([0, 1, "state", 5], id="params-are-a-number"),
        pytest.param([0, 1, "state", b"x"], id="params-are-bin"),
    ],
)
def test_request_of_another_form_breaks_the_stream(value: object) -> None:
    reader = RequestReader()
    with pytest.raises(FormatError) as caught:
        list(reader.feed(msgpack.packb(value)))
    assert caught.value.reason == "rpc.request"
    with pytest.raises(FormatError):
        list(reader.feed(encode_request(1, "state", ())))


def test_request_depth_of_three_is_read() -> None:
    (request,) = RequestReader().feed(msgpack.packb([0, 1, "x", [[1]]]))
    assert request.params == ((1,),)


def feed_all(data: bytes, step: int) -> list[Request]:
    reader = RequestReader()
    pieces = (data[begin : begin + step] for begin in range(0, len(data), step))
    return [request for piece in pieces for request in reader.feed(piece)]


STEPS = pytest.mark.parametrize("step", [1, 1000, MAX_REQUEST_BYTES, 3 * MAX_REQUEST_BYTES])


@STEPS
def test_request_that_never_ends_is_cut_at_the_cap(step: int) -> None:
    item = b"\xc5\x0f\x00" + bytes(0xF00)
    endless = b"\x94\x00\x01\xa5state\xdd\x00\x00\x00\x40" + 2 * item
    assert feed_all(endless[:MAX_REQUEST_BYTES], step) == []
    with pytest.raises(LimitExceededError):
        feed_all(endless[: MAX_REQUEST_BYTES + 1], step)


@STEPS
def test_requests_that_are_sent_ahead_are_read_whatever_their_pieces(step: int) -> None:
    ahead = b"".join(encode_request(msgid, "state", ()) for msgid in range(1000))
    assert len(ahead) > 2 * MAX_REQUEST_BYTES
    assert [request.msgid for request in feed_all(ahead, step)] == [*range(1000)]


@given(st.binary(max_size=300), st.integers(1, 17))
def test_request_any_bytes_in_any_pieces_give_requests_or_a_format_error(
    data: bytes, step: int
) -> None:
    def read(pieces: list[bytes]) -> tuple[list[Request], bool]:
        reader = RequestReader()
        seen: list[Request] = []
        try:
            for piece in pieces:
                for request in reader.feed(piece):
                    seen.append(request)  # noqa: PERF402  # keep those before the error
        except FormatError:
            return seen, True
        return seen, False

    assert read([data]) == read([data[i : i + step] for i in range(0, len(data), step)])


def test_params_must_be_of_the_schema() -> None:
    wait = METHODS["wait"]
    assert params_of(wait, (1, 2)) == (1, 2)
    assert params_of(wait, (1,)) is None
    assert params_of(wait, (1, 1 << 32)) is None
    assert params_of(wait, (1, 2, 3)) is None


@pytest.mark.parametrize(
    "result",
    [(1, 2, 3), (1, 2, 3, 0, 0), (256, 2, 3, 0), (1, 2, b"3", 0), (1, "text for the host", 3, 0)],
)
def test_result_outside_its_schema_is_a_bug_of_the_guest(result: tuple[Any, ...]) -> None:
    state = METHODS["state"]
    assert len(encode_result(1, state, (1, 2, 3, 0))) == state.reply_bytes
    with pytest.raises(ValueError, match="schema"):
        encode_result(1, state, result)


def sized(make: Callable[[bytes], object]) -> bytes:
    """What `make` gives for the padding with which it is as long as a reply."""
    found: Iterator[bytes] = (msgpack.packb(make(bytes(size))) for size in range(64))
    return next(data for data in found if len(data) == METHODS["state"].reply_bytes)


def word(pad: bytes) -> bytes:
    """A pad in which a guest would tell something."""
    return pad[:-1] + b"\1"[: len(pad)]


@pytest.mark.parametrize(
    ("make", "detail"),
    [
        pytest.param(lambda pad: pad, "not [1", id="no-array"),
        pytest.param(lambda pad: [0, 7, None, [1, 2, 3, 0, pad]], "not [1", id="request"),
        pytest.param(lambda pad: [1, 7, None, [1, 2, 3, 0, pad], 1], "not [1", id="more"),
        pytest.param(lambda pad: [1, None, [1, 2, 3, 0, pad]], "not [1", id="fewer"),
        pytest.param(lambda pad: [1, True, None, [1, 2, 3, 0, pad]], "no msgid", id="msgid"),
        pytest.param(lambda pad: [1, 7, [3], [1, 2, 3, 0, pad]], "exactly one", id="both"),
        pytest.param(lambda pad: [1, 7, [9, pad], None], "error 9", id="error"),
        pytest.param(lambda pad: [1, 7, [True, pad], None], "not [code, pad]", id="error-is-bool"),
        pytest.param(lambda pad: [1, 7, [pad], None], "not [code, pad]", id="error-is-bin"),
        pytest.param(lambda pad: [1, 7, [3, pad, 1], None], "not [code, pad]", id="error-of-3"),
        pytest.param(lambda pad: [1, 7, [3], None, pad], "not [1", id="pad-outside"),
        pytest.param(lambda pad: [1, 7, b"\3" + pad, None], "not [code, pad]", id="no-list"),
        pytest.param(lambda pad: [1, 7, None, [1, 2, 3, pad]], "another number", id="values"),
        pytest.param(lambda pad: [1, 7, None, pad], "another number", id="result-is-bin"),
        pytest.param(lambda pad: [1, 7, None, [256, 2, 3, 0, pad]], "phase", id="range"),
        pytest.param(lambda pad: [1, 7, None, [1, 2, b"3", 0, pad]], "seq", id="kind"),
        pytest.param(lambda pad: [1, 7, None, [1, 2, 3, {1: 1}, pad]], "MessagePack", id="map"),
        pytest.param(lambda pad: [True, 7, None, [1, 2, 3, 0, pad]], "not [1", id="true"),
        pytest.param(lambda pad: [1, 7, None, [1, 2, 3, 0, word(pad)]], "a pad", id="pad"),
        pytest.param(lambda pad: [1, 7, [3, word(pad)], None], "a pad", id="pad-of-error"),
        pytest.param(
            lambda pad: [1, 7, None, [1, 2, 3, 0, pad.decode()]], "a pad", id="pad-is-text"
        ),
    ],
)
def test_reply_of_another_form_is_refused(make: Callable[[bytes], object], detail: str) -> None:
    method = METHODS["state"]
    good = ReplyReader(method).feed(sized(lambda pad: [1, 7, None, [1, 2, 3, 0, pad]]))
    assert good == Reply(msgid=7, error=None, result=(1, 2, 3, 0))
    busy = ReplyReader(method).feed(sized(lambda pad: [1, 7, [RpcError.BUSY, pad], None]))
    assert busy == Reply(msgid=7, error=RpcError.BUSY, result=())
    with pytest.raises(FormatError) as caught:
        ReplyReader(method).feed(sized(make))
    assert caught.value.reason == "rpc.reply"
    assert detail in caught.value.detail


def test_reply_is_read_when_it_is_whole_and_nothing_behind_it() -> None:
    data = encode_error(7, 64, RpcError.BUSY)
    reader = ReplyReader(METHODS["state"])
    assert [reader.feed(data[at : at + 1]) for at in range(63)] == [None] * 63
    assert reader.feed(data[63:]) == Reply(msgid=7, error=RpcError.BUSY, result=())
    with pytest.raises(FormatError) as caught:
        ReplyReader(METHODS["state"]).feed(data + b"\0")
    assert (caught.value.reason, caught.value.detail) == ("rpc.reply", "bytes behind the reply")


def test_reply_that_announces_much_takes_no_room_for_it() -> None:
    method = METHODS["collect"]
    size = method.reply_bytes
    nested = (b"\xdd" + size.to_bytes(4, "big")) * 1000  # arrays of as many items as bytes
    reader = ReplyReader(method)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError) as caught:
            reader.feed(nested.ljust(size, b"\xc0"))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "rpc.reply"
    assert most < 1 << 20


def test_field_names_are_unique_within_a_method() -> None:
    for method in METHODS.values():
        for fields in (method.params, method.result):
            names = [field.name for field in fields]
            assert len(set(names)) == len(names)
            assert all(isinstance(field, Field) for field in fields)
