"""Byte streams for the HTTP client: sockets with one deadline for all their operations.

A timeout per read does not stop a peer that sends one byte each time, so every operation gets what
is left of a total. httpcore asks its network backend for a connection and then passes timeouts of
its own, which are ignored here in favour of the deadline. Failures become `PeerError` at once; HTTP
is left to `ccinit.net.http`.
"""

# ruff: noqa: ARG002 - the deadline replaces parameters of httpcore's interfaces

import select
import socket
import ssl
from collections.abc import Callable, Iterable

import httpcore

from ccinit.errors import PeerError, errno_text
from ccinit.kernel.clock import boottime
from ccinit.net.tls import is_cut_off, tls_error
from ccinit.net.tls_socket import TlsSocket

Dial = Callable[[str, int, float], socket.socket]

_WRITE_BYTES = 16 * 1024  # one TLS record: how much a write sends before the deadline is checked


class Deadline:
    """The time of one request: a total, and a cap for each wait within it.

    Attributes:
        received_bytes: of the reply so far.
        ended: whether the peer has closed its side.
    """

    def __init__(self) -> None:
        self._end = 0.0
        self._wait_seconds = 0.0
        self.received_bytes = 0
        self.ended = False

    def start(self, *, total_seconds: float, wait_seconds: float) -> None:
        """Begin a request."""
        self._end = boottime() + total_seconds
        self._wait_seconds = wait_seconds
        self.received_bytes = 0
        self.ended = False

    @property
    def is_over(self) -> bool:
        """Whether the total time is used up."""
        return boottime() >= self._end

    def left(self, target: str) -> float:
        """Return the seconds that the next operation may take.

        Raises:
            PeerError: `net.deadline`, there are none left.
        """
        seconds = self._end - boottime()
        if seconds <= 0:
            raise PeerError("net.deadline", f"{target}: the total time is over")
        return min(seconds, self._wait_seconds)


def name_target(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 address in brackets, for errors and for proxies."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def dial_tcp(host: str, port: int, timeout_seconds: float) -> socket.socket:
    """Connect by TCP to the first of the host's addresses that answers.

    Each address gets a share of the time left: whoever answers for the name can neither extend the
    time by many addresses nor use it up by a silent one.

    Raises:
        OSError: the first address's failure, or that there is no address. Addresses of a family
            that the guest has no route for are tried last, as they could only fail with that.
    """
    end = boottime() + timeout_seconds
    addresses = _resolve(host, port)
    first: OSError | None = None
    for position, address in enumerate(addresses):
        left = end - boottime()
        if left <= 0:
            break
        try:
            return _connect(address, left / (len(addresses) - position))
        except OSError as error:
            first = first or error
    raise first or TimeoutError("the name took all of the time")


def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # an empty or overlong label
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
    return [(family, address) for family, _type, _protocol, _name, address in found]


def _connect(
    address: tuple[socket.AddressFamily, tuple[object, ...]], timeout_seconds: float
) -> socket.socket:
    family, target = address
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_seconds)
        connection.connect(target)
        # The end of a handshake, a request's head and its body are small consecutive writes;
        # Nagle's algorithm would hold each back until the peer acknowledges the one before, which
        # it delays by 40 ms.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        connection.close()
        raise
    return connection


class DeadlineBackend(httpcore.NetworkBackend):
    """Makes the connections of one client."""

    def __init__(self, deadline: Deadline, dial: Dial = dial_tcp) -> None:
        """Args: deadline: of the request in progress; dial: how to reach a host and port."""
        self._deadline = deadline
        self._dial = dial

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to `host`; the other parameters are httpcore's and have no effect."""
        target = name_target(host, port)
        try:
            connection = self._dial(host, port, self._deadline.left(target))
        except OSError as error:
            raise _peer_error(error, target, self._deadline, connecting=True) from error
        return _PlainStream(connection, self._deadline, target)

    def sleep(self, seconds: float) -> None:
        """Refuse: httpcore sleeps only between its own retries, which are disabled."""
        raise RuntimeError("the client never waits between attempts")


class _SocketStream(httpcore.NetworkStream):
    def __init__(
        self, connection: socket.socket | TlsSocket, deadline: Deadline, target: str
    ) -> None:
        self._socket = connection
        self._deadline = deadline
        self._target = target

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            self._socket.settimeout(self._deadline.left(self._target))
            data = self._socket.recv(max_bytes)
        except OSError as error:
            raise _peer_error(error, self._target, self._deadline) from error
        self._deadline.received_bytes += len(data)
        self._deadline.ended = not data
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        try:
            while view:
                self._socket.settimeout(self._deadline.left(self._target))
                view = view[self._socket.send(view[:_WRITE_BYTES]) :]
        except OSError as error:
            raise _peer_error(error, self._target, self._deadline) from error

    def close(self) -> None:
        self._socket.close()

    def get_extra_info(self, info: str) -> object:
        if info != "is_readable":
            return None
        # An idle connection has been closed, or its peer says what nobody has asked for.
        if self._socket.fileno() < 0:
            return True
        if isinstance(self._socket, TlsSocket) and self._socket.has_unread:
            return True
        return bool(select.select([self._socket], [], [], 0)[0])


class _PlainStream(_SocketStream):
    def __init__(self, connection: socket.socket, deadline: Deadline, target: str) -> None:
        super().__init__(connection, deadline, target)
        self._plain = connection

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            secured = TlsSocket(self._plain, ssl_context, server_hostname)
            secured.settimeout(self._deadline.left(self._target))
            secured.do_handshake()
        except PeerError:  # no time left; httpcore closes only what this returns
            self.close()
            raise
        except (OSError, ValueError) as error:
            self.close()
            if isinstance(error, ValueError) and not isinstance(error, OSError):
                raise PeerError("net.url", f"{self._target}: not a TLS server name") from error
            raise _peer_error(error, self._target, self._deadline) from error
        return _SocketStream(secured, self._deadline, self._target)


def _peer_error(
    error: OSError, target: str, deadline: Deadline, *, connecting: bool = False
) -> PeerError:
    """Return what a failed socket call means; never includes the peer's text."""
    if isinstance(error, TimeoutError) and deadline.is_over:
        return PeerError("net.deadline", f"{target}: the total time is over")
    if isinstance(error, TimeoutError):
        return PeerError("net.timeout", f"{target}: no answer in time")
    # A reset, or an end without close_notify: both mean that the reply was cut off.
    if deadline.received_bytes and (isinstance(error, ConnectionError) or is_cut_off(error)):
        return PeerError("net.truncated", f"{target}: ended within a reply")
    if isinstance(error, ssl.SSLError):
        return tls_error(error, target)
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return PeerError("net.resolver", f"{target}: no resolver has answered for the name")
    if isinstance(error, socket.gaierror):
        return PeerError("net.dns", f"{target}: the name does not resolve")
    if connecting:
        return PeerError("net.unreachable", f"{target}: {errno_text(error.errno)}")
    return PeerError("net.closed", f"{target}: {errno_text(error.errno)}")
