"""One deadline for all that a stream does."""

import socket
import ssl
from typing import Any

import httpcore
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


def test_connection_that_came_too_late_for_tls_is_closed(clock: list[float]) -> None:
    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=4)
    ours, theirs = socket.socketpair()
    connection = DeadlineBackend(deadline, lambda _host, _port, _timeout: ours).connect_tcp("h", 1)
    clock[0] += 10
    with theirs, pytest.raises(PeerError) as refused:
        connection.start_tls(ssl.create_default_context(), "h")
    assert refused.value.reason == "net.deadline"
    assert ours.fileno() == -1


class Pieces:
    """A socket that gives one piece for each call, as TLS gives records; then what is last."""

    def __init__(self, pieces: list[bytes], last: Exception) -> None:
        self.pieces = pieces
        self.last = last
        self.timeout: float | None = None

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def recv(self, size: int) -> bytes:
        if self.pieces:
            assert len(self.pieces[0]) <= size
            return self.pieces.pop(0)
        # Whoever waits gets what is last; whoever only looks must not wait.
        raise self.last if self.timeout else ssl.SSLWantReadError


def stream_of(pieces: list[bytes], last: Exception) -> tuple[httpcore.NetworkStream, Deadline]:
    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=1)
    played: Any = Pieces(pieces, last)
    backend = DeadlineBackend(deadline, lambda _host, _port, _timeout: played)
    return backend.connect_tcp("h", 1), deadline


def test_read_takes_all_that_has_come_and_no_more_than_asked_for() -> None:
    connection, deadline = stream_of([b"one", b"two", b"three"], TimeoutError())
    assert connection.read(6) == b"onetwo"
    assert connection.read(100) == b"three"
    assert deadline.received_bytes == 11
    with pytest.raises(PeerError) as refused:
        connection.read(100)
    assert refused.value.reason == "net.timeout"


def test_end_behind_data_is_told_by_the_next_read() -> None:
    connection, deadline = stream_of([b"one", b""], TimeoutError())
    assert connection.read(100) == b"one"
    assert not deadline.ended


def test_failure_behind_data_is_told_by_the_next_read() -> None:
    class Failing(Pieces):
        def recv(self, size: int) -> bytes:
            if not self.pieces:
                raise ConnectionResetError
            return super().recv(size)

    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=1)
    played: Any = Failing([b"one"], TimeoutError())
    connection = DeadlineBackend(deadline, lambda _h, _p, _t: played).connect_tcp("h", 1)
    assert connection.read(100) == b"one"
    with pytest.raises(PeerError) as refused:
        connection.read(100)
    assert refused.value.reason == "net.truncated"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "net.timeout"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "net.dns"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "net.resolver"),
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


def test_address_of_version_6_is_told_in_brackets() -> None:
    def dial(_host: str, _port: int, _timeout: float) -> socket.socket:
        raise ConnectionRefusedError(111, "refused")

    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=1)
    with pytest.raises(PeerError) as refused:
        DeadlineBackend(deadline, dial).connect_tcp("fd00::1", 8443)
    assert refused.value.detail.startswith("[fd00::1]:8443: ")


def test_backend_never_sleeps() -> None:
    with pytest.raises(RuntimeError):
        DeadlineBackend(Deadline()).sleep(1)


@pytest.mark.parametrize("host", ["a..example", "a" * 64 + ".example"])
def test_host_that_no_name_can_be_does_not_resolve(host: str) -> None:
    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=1)
    with pytest.raises(PeerError) as refused:
        DeadlineBackend(deadline).connect_tcp(host, 443)
    assert refused.value.reason == "net.dns"
