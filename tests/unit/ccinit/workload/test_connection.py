"""One connection of a container, over a socket pair."""

import os
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from ccinit.errors import DeadlineError, PeerError
from ccinit.formats.planes.workload_api import EventCall, InfoCall, WorkloadCall
from ccinit.workload import connection
from ccinit.workload.connection import encode_reply, serve
from ccinit.workload.messages import MediaType, WorkloadAnswer

REQUEST = b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER = WorkloadAnswer(status=200, media_type=MediaType.JSON, body=b"{}")


class Pair:
    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)  # noqa: FBT003 (positional only)
        self.calls: list[WorkloadCall] = []
        self.answer = ANSWER

    def serve(self) -> None:
        def carry(call: WorkloadCall) -> WorkloadAnswer:
            self.calls.append(call)
            return self.answer

        serve(self.theirs.fileno(), carry)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    with made.ours, made.theirs:
        yield made


def test_call_is_carried_and_its_answer_sent(pair: Pair) -> None:
    pair.ours.sendall(REQUEST)
    pair.serve()
    assert pair.calls == [InfoCall()]
    assert (
        pair.ours.recv(4096)
        == encode_reply(ANSWER)
        == (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
            b"Cache-Control: no-store\r\nConnection: close\r\n\r\n{}"
        )
    )


def test_bad_request_is_answered_without_a_call(pair: Pair) -> None:
    pair.ours.sendall(REQUEST.replace(b"info", b"nothing"))
    pair.serve()
    assert pair.calls == []
    reply = pair.ours.recv(4096)
    assert reply.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert reply.endswith(b"\r\n\r\nworkload.path: no such path\n")


BODY = b'{"domain":"d","operation":"o","content":"c"}'
EXPECTATION = b"Expect: 100-Continue\r\n"
HEAD = b"POST /aa/aael HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %d\r\n\r\n" % (
    EXPECTATION,
    len(BODY),
)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_client_that_waits_for_a_word_before_its_body_gets_one(pair: Pair) -> None:
    server = threading.Thread(target=pair.serve)
    server.start()
    pair.ours.settimeout(60)
    pair.ours.sendall(HEAD)
    assert pair.ours.recv(4096) == CONTINUE
    pair.ours.sendall(BODY)
    server.join(60)
    assert pair.ours.recv(4096) == encode_reply(ANSWER)
    assert pair.calls == [EventCall(domain="d", operation="o", content="c")]


@pytest.mark.parametrize("waits", [True, False])
def test_client_of_which_little_is_read_at_a_time_is_told_once_or_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    monkeypatch.setattr(connection, "_CHUNK_BYTES", 1)
    pair.ours.sendall((HEAD if waits else HEAD.replace(EXPECTATION, b"")) + BODY)
    pair.serve()
    assert pair.ours.recv(4096) == CONTINUE * waits + encode_reply(ANSWER)


@pytest.mark.parametrize(
    "request_bytes",
    [HEAD + BODY, (HEAD + BODY).replace(EXPECTATION, b"")],
    ids=["its body has come already", "it expects nothing"],
)
def test_client_that_does_not_wait_is_told_nothing_between(
    pair: Pair, request_bytes: bytes
) -> None:
    pair.ours.sendall(request_bytes)
    pair.serve()
    assert pair.ours.recv(4096) == encode_reply(ANSWER)
    assert len(pair.calls) == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"100-Continue", b"200-ok"), b"417 Expectation Failed"),
        ((b"Content-Length: %d" % len(BODY), b"Content-Length: 9000"), b"413 "),
    ],
)
def test_expectation_that_cannot_be_met_is_refused_before_the_body(
    pair: Pair, change: tuple[bytes, bytes], status: bytes
) -> None:
    pair.ours.sendall(HEAD.replace(*change))
    pair.serve()
    assert pair.ours.recv(4096).startswith(b"HTTP/1.1 " + status)
    assert pair.calls == []


def test_word_to_go_on_has_the_deadline_of_the_request(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clock() -> float:
        """A minute passes between the word and the body."""
        if not select.select([pair.ours], (), (), 0)[0]:
            return 0.0
        pair.ours.sendall(BODY)
        return 60.0

    monkeypatch.setattr(connection, "boottime", clock)
    pair.ours.sendall(HEAD)
    with pytest.raises(DeadlineError) as caught:
        pair.serve()
    assert caught.value.reason == "workload.request"
    assert pair.ours.recv(4096) == CONTINUE


def test_container_that_goes_away_is_a_peers_error(pair: Pair) -> None:
    pair.ours.sendall(REQUEST[:-1])
    pair.ours.close()
    with pytest.raises(PeerError) as caught:
        pair.serve()
    assert caught.value.reason == "workload.closed"
    assert pair.calls == []


def test_connection_that_is_reset_within_its_request_is_a_peers_error(pair: Pair) -> None:
    """As one is whose end has bytes that it has not read."""
    pair.theirs.send(b"unread")
    pair.ours.close()
    with pytest.raises(PeerError) as caught:
        pair.serve()
    assert str(caught.value) == "workload.closed: errno 104 (ECONNRESET)"


def test_container_that_goes_away_with_its_answer_unread_is_a_peers_error(pair: Pair) -> None:
    pair.ours.sendall(REQUEST)
    pair.answer = WorkloadAnswer(status=200, media_type=MediaType.BYTES, body=bytes(1 << 20))
    pair.ours.shutdown(socket.SHUT_RD)
    with pytest.raises(PeerError) as caught:
        pair.serve()
    assert str(caught.value) == "workload.closed: errno 32 (EPIPE)"
    assert pair.calls == [InfoCall()]


def test_request_that_does_not_come_is_waited_for_in_vain(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.05)
    pair.ours.sendall(REQUEST[:-1])
    with pytest.raises(DeadlineError) as caught:
        pair.serve()
    assert caught.value.reason == "workload.request"


def test_reply_that_nobody_takes_has_a_deadline(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REPLY_SECONDS", 0.05)
    pair.answer = WorkloadAnswer(status=200, media_type=MediaType.BYTES, body=os.urandom(1 << 20))
    pair.ours.sendall(REQUEST)
    with pytest.raises(DeadlineError) as caught:
        pair.serve()
    assert caught.value.reason == "workload.reply"
