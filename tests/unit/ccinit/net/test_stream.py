"""One deadline for all that a stream does."""

import socket

import pytest

from ccinit.errors import PeerError
from ccinit.net import stream
from ccinit.net.stream import Deadline, DeadlineBackend


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(stream, "boottime", lambda: now[0])
    return now


def test_operation_gets_the_smaller_of_wait_and_rest(clock: list[float]) -> None:
    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=4)
    assert deadline.left("x") == 4
    clock[0] += 7
    assert deadline.left("x") == 3
    clock[0] += 3
    assert deadline.is_over
    with pytest.raises(PeerError) as refused:
        deadline.left("x")
    assert refused.value.reason == "net.deadline"


def test_deadline_that_was_not_started_is_over() -> None:
    with pytest.raises(PeerError) as refused:
        Deadline().left("x")
    assert refused.value.reason == "net.deadline"


def test_stream_counts_what_it_reads_and_sees_the_end() -> None:
    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=1)
    ours, theirs = socket.socketpair()
    connection = DeadlineBackend(deadline, lambda _host, _port, _timeout: ours).connect_tcp("h", 1)
    with theirs:
        connection.write(b"request")
        assert theirs.recv(100) == b"request"
        theirs.send(b"reply")
        assert connection.get_extra_info("is_readable") is True
        assert connection.read(100) == b"reply"
        assert (deadline.received_bytes, deadline.ended) == (5, False)
        assert connection.get_extra_info("is_readable") is False
        theirs.shutdown(socket.SHUT_WR)
        assert connection.read(100) == b""
        assert deadline.ended
        assert connection.get_extra_info("ssl_object") is None
        assert connection.get_extra_info("server_addr") is None
    connection.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "net.timeout"),
        (socket.gaierror(), "net.dns"),
        (ConnectionRefusedError(), "net.unreachable"),
        (OSError(113, "no route"), "net.unreachable"),
    ],
)
def test_dial_that_fails_has_a_reason(error: OSError, reason: str) -> None:
    def dial(_host: str, _port: int, _timeout: float) -> socket.socket:
        raise error

    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=1)
    with pytest.raises(PeerError) as refused:
        DeadlineBackend(deadline, dial).connect_tcp("h", 1)
    assert refused.value.reason == reason


def test_backend_never_sleeps() -> None:
    with pytest.raises(RuntimeError):
        DeadlineBackend(Deadline()).sleep(1)
