"""Calls and credits of one client, without a socket: what a hostile one may do, and may not."""

from collections.abc import Iterable

import pytest

from ccinit.errors import FormatError, PeerError
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import MAX_CALLS, METHODS, WINDOW_BYTES
from ccinit.formats.planes.owner_wire import (
    Credit,
    Data,
    Message,
    MessageReader,
    Refused,
    Reply,
    encode_credit,
    encode_data,
    encode_request,
    encode_result,
)
from ccinit.owner.messages import CallEnd
from ccinit.owner.session import Call, Session

EXEC = ("web", ("/bin/cat",), False, 0, 0)
FULL = bytes(WINDOW_BYTES)


def said(session: Session) -> list[Message]:
    """Take what the client would read."""
    messages = list(MessageReader(of_guest=False).feed(bytes(session.output)))
    session.output.clear()
    return messages


def refusal(session: Session) -> tuple[RpcError, str]:
    (reply,) = said(session)
    assert isinstance(reply, Reply)
    assert isinstance(reply.outcome, Refused)
    return reply.outcome.code, reply.outcome.reason


def session_with(method: str, params: Iterable[object]) -> Session:
    session = Session()
    (event,) = session.feed(encode_request(1, method, params))  # type: ignore[arg-type]
    assert isinstance(event, Call)
    return session


def test_call_is_open_until_it_is_finished() -> None:
    session = session_with("metrics", ())
    idle = [session.is_idle]
    session.end(1, CallEnd(result=encode_result(METHODS["metrics"], (b"text",))))
    idle.append(session.is_idle)
    assert idle == [False, True]
    assert said(session) == [Reply(msgid=1, outcome=(b"text",))]


@pytest.mark.parametrize(
    ("method", "params", "reason"),
    [
        ("rotate_everything", (), "owner.method"),
        ("stop", (1,), "owner.method"),  # the host plane's is not the owner's
        ("logs", (), "owner.params"),
        ("logs", ("x" * 64, 0, False), "owner.params"),
        ("attest", (bytes(31),), "owner.params"),
        ("exec", ("web", ("a",) * 63, 1, 0, 0), "owner.params"),
    ],
)
def test_unknown_method_and_wrong_parameters_are_told_and_cost_nothing(
    method: str, params: tuple[object, ...], reason: str
) -> None:
    session = Session()
    assert list(session.feed(encode_request(1, method, params))) == []  # type: ignore[arg-type]
    assert refusal(session) == (RpcError.BADREQ, reason)
    assert session.is_idle


def test_calls_beyond_the_cap_are_told_to_wait() -> None:
    session = Session()
    for number in range(MAX_CALLS):
        assert len(list(session.feed(encode_request(number, "events", (0, True))))) == 1
    assert list(session.feed(encode_request(MAX_CALLS, "events", (0, True)))) == []
    assert refusal(session) == (RpcError.BUSY, "owner.calls")


def test_id_of_an_open_call_is_not_used_again() -> None:
    """R83, R84: a second request of that number is a client that has lost count."""
    session = session_with("exec", EXEC)
    with pytest.raises(PeerError) as caught:
        list(session.feed(encode_request(1, "metrics", ())))
    assert caught.value.reason == "owner.msgid"


def test_guest_sends_no_more_than_a_window_until_there_is_credit() -> None:
    session = session_with("logs", ("", 0, True))
    session.send(1, 1, FULL)
    assert session.room(1) == 0
    with pytest.raises(RuntimeError):
        session.send(1, 1, b"x")
    list(session.feed(encode_credit(Credit(id=1, count=5))))
    assert session.room(1) == 5


def test_end_of_an_fd_needs_no_credit() -> None:
    session = session_with("logs", ("", 0, True))
    session.send(1, 1, FULL)
    session.send(1, 1, b"")
    assert said(session)[-1] == Data(id=1, fd=1, content=b"")


def test_credit_beyond_the_window_is_no_credit() -> None:
    session = session_with("logs", ("", 0, True))
    session.send(1, 1, b"four")
    with pytest.raises(PeerError) as caught:
        list(session.feed(encode_credit(Credit(id=1, count=5))))
    assert caught.value.reason == "owner.credit"


def test_client_sends_no_more_than_a_window_until_it_is_consumed() -> None:
    session = session_with("exec", EXEC)
    assert len(list(session.feed(encode_data(Data(id=1, fd=0, content=FULL))))) == 1
    with pytest.raises(PeerError) as caught:
        list(session.feed(encode_data(Data(id=1, fd=0, content=b"x"))))
    assert caught.value.reason == "owner.credit"


def test_consumed_bytes_come_back_as_credit_in_halves_of_a_window() -> None:
    session = session_with("exec", EXEC)
    list(session.feed(encode_data(Data(id=1, fd=0, content=FULL))))
    session.consume(1, WINDOW_BYTES // 2 - 1)
    assert said(session) == []
    session.consume(1, 1)
    assert said(session) == [Credit(id=1, count=WINDOW_BYTES // 2)]
    half = Data(id=1, fd=0, content=FULL[: WINDOW_BYTES // 2])
    assert list(session.feed(encode_data(half))) == [half]


@pytest.mark.parametrize("fd", [1, 2, 3, 5])
def test_client_writes_to_no_output(fd: int) -> None:
    session = session_with("exec", EXEC)
    with pytest.raises(PeerError) as caught:
        list(session.feed(encode_data(Data(id=1, fd=fd, content=b"x"))))
    assert caught.value.reason == "owner.stream"


def test_what_was_on_its_way_to_an_ended_call_is_dropped() -> None:
    session = session_with("exec", EXEC)
    session.end(1, CallEnd(result=encode_result(METHODS["exec"], (0, 0))))
    session.output.clear()
    late = encode_data(Data(id=1, fd=0, content=b"x")) + encode_credit(Credit(id=1, count=1))
    assert list(session.feed(late)) == []
    assert said(session) == []


def test_reply_from_a_client_ends_it() -> None:
    with pytest.raises(FormatError) as caught:
        list(Session().feed(b"\x94\x01\x01\xc0\x90"))
    assert caught.value.reason == "owner.message"


def test_client_writes_to_no_input_that_the_method_is_without() -> None:
    attached = session_with("attach", ("web",))
    copying = session_with("copy", ("web", "/x", True, 0))
    assert list(copying.feed(encode_data(Data(id=1, fd=0, content=b"x"))))
    for session, fd in ((attached, 0), (copying, 4)):
        with pytest.raises(PeerError) as caught:
            list(session.feed(encode_data(Data(id=1, fd=fd, content=b"x"))))
        assert caught.value.reason == "owner.stream"
