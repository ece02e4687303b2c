"""Messages of the owner plane: there and back in any pieces, all else refused (R80-R82)."""

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import (
    MAX_ARGUMENTS,
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    METHODS,
    WINDOW_BYTES,
    Value,
    are_valid,
)
from ccinit.formats.planes.owner_wire import (
    MAX_DETAIL_BYTES,
    Credit,
    Data,
    LogLine,
    LogLineReader,
    Message,
    MessageReader,
    Refused,
    Reply,
    Request,
    encode_credit,
    encode_data,
    encode_log_line,
    encode_refusal,
    encode_reply,
    encode_request,
    encode_result,
    result_of,
)
from ccinit.formats.sealed_log import Kind

TO_GUEST: dict[bytes, Message] = {
    encode_request(7, "logs", ("web", 3, True)): Request(
        msgid=7, method="logs", params=("web", 3, True)
    ),
    encode_request(0xFFFF_FFFF, "exec", ("web", ("/bin/true",), False, 1, 2)): Request(
        msgid=0xFFFF_FFFF, method="exec", params=("web", ("/bin/true",), False, 1, 2)
    ),
    encode_data(Data(id=7, fd=0, content=bytes(WINDOW_BYTES))): Data(
        id=7, fd=0, content=bytes(WINDOW_BYTES)
    ),
    encode_credit(Credit(id=7, count=1)): Credit(id=7, count=1),
}
TO_OWNER: dict[bytes, Message] = {
    encode_reply(7, encode_result(METHODS["logs"], (9,))): Reply(msgid=7, outcome=(9,)),
    encode_refusal(7, Refused(code=RpcError.DENIED, reason="owner.role", detail="no")): Reply(
        msgid=7, outcome=Refused(code=RpcError.DENIED, reason="owner.role", detail="no")
    ),
    encode_data(Data(id=7, fd=2, content=b"")): Data(id=7, fd=2, content=b""),
}


@pytest.mark.parametrize(("messages", "of_guest"), [(TO_GUEST, True), (TO_OWNER, False)])
@given(data=st.data())
def test_messages_arrive_in_any_pieces(
    messages: dict[bytes, Message],
    of_guest: bool,  # noqa: FBT001
    data: st.DataObject,
) -> None:
    reader = MessageReader(of_guest=of_guest)
    stream = b"".join(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    found: list[object] = []
    for start, stop in zip((0, *cuts), (*cuts, len(stream)), strict=True):
        found += reader.feed(stream[start:stop])
    assert found == list(messages.values())
    assert not reader.unfinished


def test_half_a_message_waits() -> None:
    reader = MessageReader(of_guest=True)
    assert list(reader.feed(encode_request(1, "metrics", ())[:-1])) == []
    assert reader.unfinished


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([0, 1, "logs"], id="short"),
        pytest.param([0, 1, "logs", [], 1], id="long"),
        pytest.param([False, 1, "logs", []], id="kind-bool"),
        pytest.param([3, 1, "logs", []], id="kind"),
        pytest.param([0, -1, "logs", []], id="msgid-negative"),
        pytest.param([0, 1 << 32, "logs", []], id="msgid-large"),
        pytest.param([0, True, "logs", []], id="msgid-bool"),
        pytest.param([0, 1, b"logs", []], id="method-bytes"),
        pytest.param([0, 1, "logs", "x"], id="params"),
        pytest.param([0, 1, "logs", [None]], id="nil"),
        pytest.param([0, 1, "logs", [1.5]], id="float"),
        pytest.param([0, 1, "logs", [{}]], id="map"),
        pytest.param([0, 1, "logs", [msgpack.ExtType(1, b"")]], id="ext"),
        pytest.param([0, 1, "logs", [[[[1]]]]], id="depth"),
        pytest.param([0, 1, "logs", [0] * 65], id="items"),
        pytest.param([0, 1, "logs", ["x" * 4097]], id="text"),
        pytest.param([1, 1, None, [1]], id="a-reply"),
        pytest.param([2, "data", [1, 0]], id="data-short"),
        pytest.param([2, "data", [1, 0, "text"]], id="data-text"),
        pytest.param([2, "data", [1, 0, bytes(WINDOW_BYTES + 1)]], id="data-large"),
        pytest.param([2, "credit", [1, -1]], id="credit-negative"),
        pytest.param([2, "resize", [1, 1]], id="notification"),
        pytest.param([], id="empty"),
        pytest.param(7, id="number"),
    ],
)
def test_anything_else_breaks_the_stream_for_good(value: object) -> None:
    reader = MessageReader(of_guest=True)
    with pytest.raises(FormatError) as caught:
        list(reader.feed(msgpack.packb(value)))
    assert caught.value.reason == "owner.message"
    with pytest.raises(FormatError):
        list(reader.feed(next(iter(TO_GUEST))))


@pytest.mark.parametrize(
    "value",
    [
        [1, 1, None, None],
        [1, 1, [4, "a", "b"], [1]],
        [1, 1, [99, "a", "b"], None],
        [1, 1, [True, "a", "b"], None],
        [1, 1, [4, "a" * 65, "b"], None],
        [1, 1, [4, "a", "b" * 1025], None],
        [True, 1, None, [1]],
        [1, 1, [4, "a"], None],
        [1, 1, None, [1.5]],
        [2, "data", [1, 2, bytes(WINDOW_BYTES + 1)]],
        [0, 1, "logs", []],
    ],
)
def test_owner_reads_nothing_but_replies_and_streams(value: object) -> None:
    with pytest.raises(FormatError) as caught:
        list(MessageReader(of_guest=False).feed(msgpack.packb(value)))
    assert caught.value.reason == "owner.message"


def test_request_as_large_as_its_schema_allows_is_read_behind_a_window_of_data() -> None:
    data = Data(id=7, fd=0, content=bytes(WINDOW_BYTES))
    params: tuple[Value, ...] = (
        "c" * MAX_NAME_BYTES, ("x" * MAX_PATH_BYTES,) * MAX_ARGUMENTS, True, 0xFFFF, 0xFFFF
    )  # fmt: skip
    assert are_valid(METHODS["exec"].params, params)
    stream = encode_data(data) + encode_request(8, "exec", params)
    expected = [data, Request(msgid=8, method="exec", params=params)]
    assert list(MessageReader(of_guest=True).feed(stream)) == expected


def test_message_that_never_ends_is_refused_by_its_length() -> None:
    item = b"\xc6" + WINDOW_BYTES.to_bytes(4) + bytes(WINDOW_BYTES)
    with pytest.raises(LimitExceededError) as caught:
        list(MessageReader(of_guest=True).feed(b"\xdc\x00\x40" + 7 * item))
    assert caught.value.reason == "owner.message"


def test_refusal_is_cut_to_size() -> None:
    data = encode_refusal(1, Refused(code=RpcError.FAILED, reason="r" * 99, detail="é" * 999))
    (reply,) = MessageReader(of_guest=False).feed(data)
    assert isinstance(reply, Reply)
    assert isinstance(reply.outcome, Refused)
    assert reply.outcome.reason == "r" * 64
    assert len(reply.outcome.detail.encode()) <= MAX_DETAIL_BYTES


def test_result_of_another_form_is_refused_on_both_sides() -> None:
    with pytest.raises(ValueError, match="schema"):
        encode_result(METHODS["logs"], ("text",))
    with pytest.raises(FormatError) as caught:
        result_of(METHODS["logs"], ("text",))
    assert caught.value.reason == "owner.result"
    assert result_of(METHODS["logs"], (5,)) == (5,)


def test_log_lines_arrive_in_any_pieces() -> None:
    lines = [
        LogLine(sequence=n, boottime_us=n, kind=Kind.STDOUT, source="web", data=bytes((n, 255)))
        for n in range(3)
    ]
    reader = LogLineReader()
    stream = b"".join(map(encode_log_line, lines))
    assert [line for byte in stream for line in reader.feed(bytes((byte,)))] == lines


@pytest.mark.parametrize(
    "value",
    [
        [1, 2, 99, "web", b""],
        [1, 2, True, "web", b""],
        [True, 2, 3, "web", b""],
        [-1, 2, 3, "web", b""],
        [1, -2, 3, "web", b""],
        [1, 2, 3, "we\0b", b""],
        [1, 2, 3, "web"],
        [1, 2, 3, 4, b""],
        5,
    ],
)
def test_log_line_of_another_form_is_refused(value: object) -> None:
    with pytest.raises(FormatError) as caught:
        list(LogLineReader().feed(msgpack.packb(value)))
    assert caught.value.reason == "owner.entry"
