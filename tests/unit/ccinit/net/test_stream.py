"""One deadline for all that a stream does."""

import errno
import socket
import ssl
from typing import Any

import httpcore
import pytest

from ccinit.errors import PeerError
from ccinit.net import stream, tls_socket
from ccinit.net.stream import Deadline, DeadlineBackend


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    for module in (stream, tls_socket):
        monkeypatch.setattr(module, "boottime", lambda: now[0])
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
        assert connection.get_extra_info("is_readable") is True  # there is nothing to use again
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


class Refusing:
    """A context that does not accept the peer's certificate; the error is a ValueError as well."""

    def wrap_bio(self, *_: object, **__: object) -> "Refusing":
        return self

    def do_handshake(self) -> None:
        error = ssl.SSLCertVerificationError()
        error.verify_code, error.verify_message = 20, "unable to get local issuer certificate"
        raise error


def test_certificate_that_is_refused_is_not_taken_for_a_wrong_name() -> None:
    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=1)
    ours, theirs = socket.socketpair()
    connection = DeadlineBackend(deadline, lambda _host, _port, _timeout: ours).connect_tcp("h", 1)
    context: Any = Refusing()
    with theirs, pytest.raises(PeerError) as refused:
        connection.start_tls(context, "h")
    assert refused.value.reason == "net.certificate"
    assert ours.fileno() == -1


class Failing:
    """A socket that has one piece of data, or none, and then fails."""

    def __init__(self, data: bytes, error: Exception) -> None:
        self.data = data
        self.error = error

    def settimeout(self, _seconds: float) -> None:
        """Nothing is waited for."""

    def recv(self, _size: int) -> bytes:
        if not self.data:
            raise self.error
        data, self.data = self.data, b""
        return data


def stream_of(data: bytes, error: Exception) -> httpcore.NetworkStream:
    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=1)
    played: Any = Failing(data, error)
    return DeadlineBackend(deadline, lambda _h, _p, _t: played).connect_tcp("h", 1)


CUT_OFF = [ConnectionResetError(errno.ECONNRESET, "reset"), ssl.SSLEOFError()]


@pytest.mark.parametrize("error", CUT_OFF, ids=repr)
def test_failure_behind_data_has_cut_off_a_reply(error: Exception) -> None:
    connection = stream_of(b"one", error)
    assert connection.read(100) == b"one"
    with pytest.raises(PeerError) as refused:
        connection.read(100)
    assert refused.value.reason == "net.truncated"


@pytest.mark.parametrize(
    ("error", "reason"),
    [*((error, "net.closed") for error in CUT_OFF), (ssl.SSLError(1, "x"), "net.tls")],
    ids=repr,
)
def test_failure_before_any_data_is_none_of_a_reply(error: Exception, reason: str) -> None:
    with pytest.raises(PeerError) as refused:
        stream_of(b"", error).read(100)
    assert refused.value.reason == reason


def test_request_that_the_peer_does_not_take_is_told() -> None:
    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=1)
    ours, theirs = socket.socketpair()
    theirs.close()
    connection = DeadlineBackend(deadline, lambda _host, _port, _timeout: ours).connect_tcp("h", 1)
    with pytest.raises(PeerError) as refused:
        connection.write(b"request")
    assert str(refused.value) == "net.closed: h:1: errno 32 (EPIPE)"
    connection.close()
    assert ours.fileno() == -1


class Silent:
    """A peer's socket, or TLS over it, with which every operation takes all of its time."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.seconds = 0.0
        self.is_open = True

    def settimeout(self, seconds: float) -> None:
        self.seconds = seconds

    def recv(self, _size: int) -> bytes:
        self.clock[0] += self.seconds
        raise TimeoutError

    def send(self, _data: memoryview) -> int:
        self.clock[0] += self.seconds
        raise TimeoutError

    def wrap_bio(self, *_: object, **__: object) -> "Silent":
        return self

    def do_handshake(self) -> None:
        raise ssl.SSLWantReadError

    def close(self) -> None:
        self.is_open = False


@pytest.mark.parametrize("operation", ["read", "write", "start_tls"])
def test_silent_peer_gets_what_is_left_of_the_total(clock: list[float], operation: str) -> None:
    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=4)
    played: Any = Silent(clock)
    connection = DeadlineBackend(deadline, lambda _h, _p, _t: played).connect_tcp("h", 1)
    argument = {"read": 100, "write": b"request", "start_tls": played}[operation]
    for then, reason in ((104, "net.timeout"), (108, "net.timeout"), (110, "net.deadline")):
        with pytest.raises(PeerError) as refused:
            getattr(connection, operation)(argument)
        assert (clock[0], refused.value.reason) == (then, reason)
    assert played.is_open == (operation != "start_tls")


def test_name_that_no_certificate_can_have_is_refused() -> None:
    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=1)
    ours, theirs = socket.socketpair()
    connection = DeadlineBackend(deadline, lambda _host, _port, _timeout: ours).connect_tcp("h", 1)
    with theirs, pytest.raises(PeerError) as refused:
        connection.start_tls(ssl.create_default_context(), "")
    assert refused.value.reason == "net.url"
    assert ours.fileno() == -1


def test_peer_that_speaks_no_tls_is_not_taken_for_a_wrong_name() -> None:
    deadline = Deadline()
    deadline.start(total_seconds=10, wait_seconds=1)
    ours, theirs = socket.socketpair()
    connection = DeadlineBackend(deadline, lambda _host, _port, _timeout: ours).connect_tcp("h", 1)
    theirs.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with theirs, pytest.raises(PeerError) as refused:
        connection.start_tls(ssl.create_default_context(), "h")
    assert refused.value.reason == "net.tls"
    assert ours.fileno() == -1


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
