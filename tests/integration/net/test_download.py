"""Downloads of the guest's HTTP client over real TLS: only what was asked for reaches the sink."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

from ccinit.errors import CcinitError
from ccinit.net.http import HttpClient, HttpLimits, HttpReply
from ccinit.net.stream import dial_tcp
from ccinit.net.tls import pinned_context
from tests.fakes.network.tls_server import (
    Authority,
    Handler,
    TlsServer,
    answer,
    make_authority,
    read_head,
    server_context,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


LONG = bytes(range(256)) * 1000
LONG_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LONG)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture
def _long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every body read as a long one is."""
    monkeypatch.setattr("ccinit.net.http._LONG_BODY_BYTES", 1)


def refused_reason(action: Callable[[], object]) -> str:
    with pytest.raises(CcinitError) as refused:
        action()
    return refused.value.reason


def download(
    authority: Authority, handler: Handler, *, offset: int = 0, max_body_bytes: int = 100_000
) -> tuple[HttpReply, bytes]:
    received = bytearray()
    limits = HttpLimits(wait_seconds=20, total_seconds=30, max_body_bytes=max_body_bytes)
    with (
        TlsServer(server_context(authority.issue()), handler) as server,
        HttpClient(pinned_context(authority.pem, check_time=True)) as client,
    ):
        reply = client.stream_get(server.url(), sink=received.extend, limits=limits, offset=offset)
    return reply, bytes(received)


def test_download_whole_body_goes_to_the_sink(authority: Authority) -> None:
    reply, received = download(authority, answer(OK))
    assert (reply.status, reply.body, received) == (200, b"", b"hello")


@pytest.mark.usefixtures("_long")
@pytest.mark.parametrize("first", [0, 1, 70_000, len(LONG)])
def test_download_of_a_long_body_is_as_whole(authority: Authority, first: int) -> None:
    """However much of it comes with the head, and whatever comes behind it."""
    parts = (LONG_HEAD + LONG[:first], LONG[first:] + b"behind it")
    reply, received = download(authority, answer(*parts), max_body_bytes=len(LONG))
    assert (reply.status, reply.body) == (200, b"")
    assert received == LONG


@pytest.mark.usefixtures("_long")
@pytest.mark.parametrize("sent", [0, 1, 70_000, len(LONG) - 1])
def test_download_of_a_long_body_that_is_cut_is_truncated(authority: Authority, sent: int) -> None:
    handler = answer(LONG_HEAD + LONG[:sent])
    action = lambda: download(authority, handler, max_body_bytes=len(LONG))  # noqa: E731
    assert refused_reason(action) == "net.truncated"


@pytest.mark.usefixtures("_long")
def test_download_of_a_long_body_takes_its_connection_with_it(authority: Authority) -> None:
    def handle(connection: socket.socket) -> None:
        while read_head(connection):
            connection.sendall(OK)

    received = bytearray()
    with (
        TlsServer(server_context(authority.issue()), handle) as server,
        HttpClient(pinned_context(authority.pem, check_time=True)) as client,
    ):
        for connections in (1, 2, 3):
            client.stream_get(server.url(), sink=received.extend, limits=HttpLimits())
            assert server.connections == connections
        assert client.request("GET", server.url()).body == b"hello"
        assert client.request("GET", server.url()).body == b"hello"
        assert server.connections == 4
    assert received == b"hello" * 3


@pytest.mark.usefixtures("_long")
def test_download_in_chunks_is_never_read_past_them(authority: Authority) -> None:
    handler = answer(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
    )
    assert download(authority, handler)[1] == b"hello"


def test_download_resume_asks_for_the_rest(authority: Authority) -> None:
    heads: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(
            b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-4/5\r\n"
            b"Content-Length: 2\r\n\r\nlo"
        )

    reply, received = download(authority, handle, offset=3)
    assert b"\r\nrange: bytes=3-\r\n" in heads[0].lower()
    assert (reply.status, received) == (206, b"lo")


@pytest.mark.parametrize(
    ("offset", "head"),
    [
        pytest.param(3, b"200 OK", id="whole instead of rest"),
        pytest.param(0, b"206 Partial Content", id="part instead of whole"),
        pytest.param(3, b"206 Partial Content\r\nContent-Range: bytes 30-34/35", id="another part"),
        pytest.param(3, b"206 Partial Content", id="unnamed part"),
    ],
)
def test_download_another_range_is_refused(authority: Authority, offset: int, head: bytes) -> None:
    handler = answer(b"HTTP/1.1 " + head + b"\r\nContent-Length: 5\r\n\r\nhello")
    action = lambda: download(authority, handler, offset=offset)  # noqa: E731
    assert refused_reason(action) == "net.range"


def test_small_writes_do_not_wait_for_each_other() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        dial_tcp("127.0.0.1", server.getsockname()[1], 1.0) as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_services_that_take_turns_keep_their_connections(authority: Authority) -> None:
    def handle(connection: socket.socket) -> None:
        while read_head(connection):
            connection.sendall(OK)

    context = server_context(authority.issue())
    with (
        TlsServer(context, handle) as registry,
        TlsServer(context, handle) as store,
        HttpClient(pinned_context(authority.pem, check_time=True)) as client,
    ):
        for server in (registry, store) * 3:
            assert client.request("GET", server.url()).body == b"hello"
        assert (registry.connections, store.connections) == (1, 1)


def test_connection_that_was_silent_for_long_is_made_anew(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handle(connection: socket.socket) -> None:
        while read_head(connection):
            connection.sendall(OK)

    now = [1000.0]
    monkeypatch.setattr("httpcore._sync.http11.time", SimpleNamespace(monotonic=lambda: now[0]))
    with (
        TlsServer(server_context(authority.issue()), handle) as server,
        HttpClient(pinned_context(authority.pem, check_time=True)) as client,
    ):
        for silent_seconds, connections in ((0, 1), (29, 1), (29, 1), (31, 2), (29, 2)):
            now[0] += silent_seconds
            assert client.request("GET", server.url()).body == b"hello"
            assert server.connections == connections


def test_download_error_body_does_not_reach_the_sink(authority: Authority) -> None:
    handler = answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone")
    reply, received = download(authority, handler)
    assert (reply.status, reply.body, received) == (404, b"gone", b"")


def test_download_body_beyond_the_limit_stops_at_the_limit(authority: Authority) -> None:
    handler = answer(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        *((b"1000\r\n" + bytes(0x1000) + b"\r\n",) * 64),
    )
    action = lambda: download(authority, handler, max_body_bytes=10_000)  # noqa: E731
    assert refused_reason(action) == "net.body"


def test_a_name_of_many_addresses_gets_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with full_listener() as address, socket.create_server(("127.0.0.2", 0)) as server:
        port = server.getsockname()[1]
        silent = (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
        answering = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: [silent] * 30)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            dial_tcp("registry.example", port, 1.5)
        assert time.monotonic() - began < 20  # each of the thirty could have had as much
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: [silent, answering])
        with dial_tcp("registry.example", port, 4.0) as connection:
            assert connection.getpeername() == ("127.0.0.2", port)


def test_a_name_of_many_addresses_tells_what_its_first_one_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        refusing = (socket.AF_INET, socket.SOCK_STREAM, 6, "", closed.getsockname())
        # As IPv6 for a guest that has none: the resolver puts what no route leads to behind.
        unreachable = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("255.255.255.255", 443))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: [refusing, unreachable])
        with pytest.raises(ConnectionRefusedError):
            dial_tcp("registry.example", 443, 5.0)


@contextmanager
def full_listener() -> Iterator[tuple[str, int]]:
    """Yield an address where connecting gets no answer: the queue is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _waiting in range(4):
            client = stack.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(server.getsockname())
        yield server.getsockname()
