"""CONNECT over a pair of sockets: nothing but the head of the proxy's answer is read."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ccinit.errors import PeerError
from ccinit.net.proxy import dial_through


class Proxy:
    """The proxy's end of one connection."""

    def __init__(self, answer: bytes) -> None:
        self.client, self.server = socket.socketpair()
        self.dialled: list[tuple[str, int]] = []
        self.server.sendall(answer)
        self.server.settimeout(5)

    def dial(self, host: str, port: int, timeout_seconds: float) -> socket.socket:
        assert timeout_seconds > 0
        self.dialled.append((host, port))
        return self.client


@contextmanager
def proxy_that_says(answer: bytes) -> Iterator[Proxy]:
    proxy = Proxy(answer)
    with proxy.client, proxy.server:
        yield proxy


def test_target_is_named_and_what_follows_the_head_is_left() -> None:
    with proxy_that_says(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\nTLS") as proxy:
        connection = dial_through("proxy.example:3128", proxy.dial)("r.example", 443, 60.0)
        assert connection.recv(3) == b"TLS"
        request = proxy.server.recv(1024)
        assert proxy.dialled == [("proxy.example", 3128)]
    assert request == b"CONNECT r.example:443 HTTP/1.1\r\nHost: r.example:443\r\n\r\n"


def test_addresses_of_version_6_are_in_brackets_where_a_port_follows() -> None:
    with proxy_that_says(b"HTTP/1.0 200\r\n\r\n") as proxy:
        dial_through("[fd00::3]:3128", proxy.dial)("2001:db8::1", 5000, 60.0)
        assert proxy.dialled == [("fd00::3", 3128)]
        assert proxy.server.recv(1024).startswith(b"CONNECT [2001:db8::1]:5000 ")


@pytest.mark.parametrize("status", [b"500 Unable to connect", b"502 x", b"503 x", b"504 x"])
def test_target_that_the_proxy_does_not_reach_is_told_as_one_that_is_not_there(
    status: bytes,
) -> None:
    with proxy_that_says(b"HTTP/1.1 " + status + b"\r\n\r\n") as proxy:
        with pytest.raises(PeerError) as refused:
            dial_through("proxy.example:3128", proxy.dial)("r.example", 443, 60.0)
        assert refused.value.reason == "net.unreachable"
        assert refused.value.detail.startswith("r.example:443: the proxy proxy.example:3128 says ")
        assert proxy.client.fileno() == -1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 10_000,
    ],
)
def test_proxy_that_refuses_or_is_none_ends_the_connection(answer: bytes) -> None:
    with proxy_that_says(answer) as proxy:
        with pytest.raises(PeerError) as refused:
            dial_through("proxy.example:3128", proxy.dial)("r.example", 443, 60.0)
        assert refused.value.reason == "net.proxy"
        assert proxy.client.fileno() == -1


def test_proxy_that_hangs_up_or_stalls_ends_the_connection() -> None:
    with proxy_that_says(b"HTTP/1.1 2") as proxy:
        proxy.server.shutdown(socket.SHUT_WR)
        with pytest.raises(PeerError) as refused:
            dial_through("proxy.example:3128", proxy.dial)("r.example", 443, 60.0)
        assert refused.value.reason == "net.proxy"
    with proxy_that_says(b"HTTP/1.1 2") as proxy, pytest.raises(TimeoutError):
        dial_through("proxy.example:3128", proxy.dial)("r.example", 443, 0.05)
