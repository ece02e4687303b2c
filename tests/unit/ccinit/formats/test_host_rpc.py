"""The host plane's schema and framing.

Invariant: bytes in any pieces become requests of the schema or a `FormatError`; every reply of a
method has one size and carries no text.
"""

import tracemalloc

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.host_rpc import (
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
from ccinit.formats.msgpack_rpc import (
    MAX_REQUEST_BYTES,
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


def test_request_that_never_ends_is_cut_at_the_cap() -> None:
    reader = RequestReader()
    head = b"\x94\x00\x01\xa5state\xdd\x00\x00\x00\x40"
    assert not list(reader.feed(head + b"\xc5\x0f\x00" + bytes(3000)))
    assert reader.unfinished
    with pytest.raises(LimitExceededError):
        list(reader.feed(bytes(MAX_REQUEST_BYTES)))


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


def test_result_outside_its_schema_is_a_bug_of_the_guest() -> None:
    with pytest.raises(ValueError, match="schema"):
        encode_result(1, METHODS["state"], (1, 2, 3))


BUSY = encode_error(7, 64, RpcError.BUSY)
STATE = encode_result(7, METHODS["state"], (11, 0, 5, 1))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x94\x01\x07\xc0\x91\xc4\x39" + bytes(57), id="other-result"),
        pytest.param(bytes(64), id="no-array"),
        pytest.param(BUSY + b"\0", id="behind"),
        pytest.param(b"\x94\x01\x07\x91\x09" + b"\xc4\x39" + bytes(57), id="unknown-error"),
        pytest.param(BUSY.replace(b"\x92\x03", b"\x92\x09"), id="error-outside-the-list"),
        pytest.param(BUSY.replace(b"\x92\x03", b"\x92\xc3"), id="true-for-an-error"),
        pytest.param(b"\x94\x01\x07\x93\x03\xc4\x37" + bytes(56) + b"\xc0", id="three-for-two"),
        pytest.param(BUSY.replace(b"\0\0\xc0", b"\0\1\xc0"), id="error-with-a-word-in-its-pad"),
        pytest.param(STATE.replace(b"\x94\x01", b"\x94\xc3"), id="true-for-a-reply"),
        pytest.param(STATE[:-1] + b"\1", id="word-in-the-pad"),
        pytest.param(STATE.replace(b"\xc4", b"\xd9"), id="text-for-a-pad"),
    ],
)
def test_reply_of_another_form_is_refused(data: bytes) -> None:
    for good in (BUSY, STATE):
        assert ReplyReader(METHODS["state"]).feed(good) is not None
        assert data != good
    with pytest.raises(FormatError) as caught:
        ReplyReader(METHODS["state"]).feed(data)
    assert caught.value.reason == "rpc.reply"


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
