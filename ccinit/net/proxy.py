"""Connections through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6), and nothing else.

The proxy carries a TLS connection that ends elsewhere, and learns the host's name and port. It is
reached without TLS, needs no password, and resolves the name.
"""

import socket

from ccinit.errors import PeerError
from ccinit.kernel.clock import boottime
from ccinit.net.stream import Dial, dial_tcp, name_target

_MAX_HEAD_BYTES = 8 * 1024
_END = b"\r\n\r\n"


def dial_through(proxy: str, dial: Dial = dial_tcp) -> Dial:
    """Return a way to reach hosts through `proxy`.

    Args:
        proxy: `host:port`, an IPv6 host in brackets.
        dial: how to reach the proxy.
    """
    host_text, _colon, port = proxy.rpartition(":")
    name = host_text.removeprefix("[").removesuffix("]")

    def connect(host: str, target_port: int, timeout_seconds: float) -> socket.socket:
        end = boottime() + timeout_seconds
        connection = dial(name, int(port), timeout_seconds)
        try:
            target = name_target(host, target_port)
            connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            _check_status(_read_head(connection, end), proxy, target)
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def _read_head(connection: socket.socket, end: float) -> bytes:
    """Read to the end of the reply's head, and not a byte further."""
    head = bytearray()
    while not head.endswith(_END):
        left = end - boottime()
        if left <= 0:
            raise TimeoutError("the proxy does not answer")
        connection.settimeout(left)
        byte = connection.recv(1)
        if not byte or len(head) >= _MAX_HEAD_BYTES:
            raise PeerError("net.proxy", "the proxy's answer has no end")
        head += byte
    return bytes(head)


def _check_status(head: bytes, proxy: str, target: str) -> None:
    """Raises: PeerError: `net.unreachable`, the proxy did not reach the target; `net.proxy`."""
    version, _blank, rest = head.partition(b" ")
    is_http, status = version.startswith(b"HTTP/1."), rest[:3].decode("ascii", "replace")
    if is_http and status.startswith("2"):
        return
    if is_http and status.startswith("5"):
        raise PeerError("net.unreachable", f"{target}: the proxy {proxy} says {status!r}")
    raise PeerError("net.proxy", f"{proxy}: the proxy says {status!r}")
