"""Sockets and TLS of the KBS: TLS 1.3 only, deadlines for sending requests and taking replies.

uvicorn speaks HTTP/1.1; the application is `guest_owner.kbs.http.app`, and
`guest_owner.kbs.http.connections` accepts connections. One process, one thread.
"""

import asyncio
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import cast

import uvicorn

from ccinit.errors import ConfigError
from guest_owner.certificates import MISMATCHES, describe_unusable_pair
from guest_owner.files import read_capped
from guest_owner.kbs.authority import MAX_PEM_BYTES
from guest_owner.kbs.http.app import build_app
from guest_owner.kbs.http.connections import Connections, Established
from guest_owner.kbs.http.protocol import HttpProtocol
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.metrics import Metrics
from guest_owner.kbs.server_certificate import read_certificate
from guest_owner.kbs.service import Service
from measured_boot.command_line.tcp_address import join_address

_BACKLOG = 1024  # connections that the kernel keeps until they are accepted
_LOOK_SECONDS = 86400.0

_log = logging.getLogger(__name__)


def build_server(
    service: Service,
    limits: Limits,
    *,
    certificate: Path,
    key: Path,
    look: Callable[[], Iterable[str]] = tuple,
) -> uvicorn.Server:
    """Return a server that is not listening yet.

    Args:
        service: what it serves.
        limits: what peers may cost.
        certificate: PEM chain that it shows.
        key: its key.
        look: returns warnings for the operator; called once a day and after the certificate was
            reloaded; it may raise ConfigError.

    Raises:
        ConfigError: `tls.certificate`; `state.read`, `state.size`.
    """

    def make_context() -> ssl.SSLContext:
        context = _tls_context(certificate, key)
        ends = read_certificate(certificate).not_valid_after_utc
        service.metrics.note_certificate(int(ends.timestamp()))
        return context

    config = uvicorn.Config(
        build_app(service, limits),
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,  # whoever runs the server says where lines go
        log_level="error",  # its warnings are one line for each odd request of a stranger
        timeout_graceful_shutdown=2,
    )
    return _Server(config, limits, service.metrics, make_context, look)


def open_listener(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; port 0 takes a free one.

    Raises:
        ConfigError: `listen.address`.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(
            address,
            family=family,
            backlog=_BACKLOG,
            # One process serves a state directory, so a wildcard address has to cover IPv4 as well.
            dualstack_ipv6=address[0] == "::" and socket.has_dualstack_ipv6(),
        )
        # Connections inherit it. asyncio sets it only on sockets made with an explicit protocol
        # number; without it, head and body of a reply are 40 ms apart.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        # What `create_server` adds to an error's text is the address as Python writes it.
        why = str(error.strerror).partition(" (while ")[0]
        detail = f"cannot listen on {join_address(host, port)}: {why}"
        raise ConfigError("listen.address", detail) from error
    return listener


def _tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    # A resumed session shows no certificate, but the guest checks it every time.
    context.num_tickets = 0
    # OpenSSL does not say which one it cannot read.
    public, private = (read_capped(path, MAX_PEM_BYTES) for path in (certificate, key))
    try:
        context.load_cert_chain(certificate, key, password="")  # else OpenSSL asks a terminal
    except ssl.SSLError as error:
        why = describe_unusable_pair(error, public, private)
        if error.reason in MISMATCHES:  # as a renewal leaves them that was killed halfway
            why = f"{why}; `guest-owner kbs new-certificate` renews both of the state"
        detail = f"cannot use {certificate} and {key} as certificate and key: {why}"
        raise ConfigError("tls.certificate", detail) from error
    return context


class _Server(uvicorn.Server):
    """uvicorn's server with our own accepting, since uvicorn's has no cap and hides TLS errors."""

    def __init__(
        self,
        config: uvicorn.Config,
        limits: Limits,
        metrics: Metrics,
        make_context: Callable[[], ssl.SSLContext],
        look: Callable[[], Iterable[str]],
    ) -> None:
        super().__init__(config)
        self._look = look
        self._limits = limits
        self._make_context = make_context
        self._context = make_context()
        self._connections = Connections(
            room=limits.connections,
            seconds=limits.head_seconds,
            # It holds only our own protocol; uvicorn's type is the union of those that it has.
            established=cast("set[Established]", self.server_state.connections),
            observe=metrics.count_alert,
        )
        self._acceptors: list[asyncio.Task[None]] = []
        self._looking: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        make_protocol = partial(HttpProtocol, self._limits, self.config, self.server_state)
        self.servers = []
        for listener in sockets or ():
            listener.settimeout(0)
            acceptor = loop.create_task(
                self._connections.accept_all(listener, make_protocol, lambda: self._context)
            )
            acceptor.add_done_callback(self._note_end)
            self._acceptors.append(acceptor)
        self._looking = loop.create_task(self._look_daily())
        if threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(signal.SIGHUP, self.reload_certificate)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for acceptor in self._acceptors:
            acceptor.cancel()
        if self._looking is not None:
            self._looking.cancel()
        self._connections.end_handshakes()
        for connection in tuple(self.server_state.connections):
            # uvicorn would wait for each peer to end TLS, and log an error if it does not.
            if isinstance(connection, HttpProtocol) and connection.is_idle:
                connection.transport.abort()
        await super().shutdown(sockets)

    async def _look_daily(self) -> None:
        """Repeat daily the warnings of the start: a server may outlive its certificate."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._tell_warnings()

    def _tell_warnings(self) -> None:
        try:
            for text in self._look():
                _log.warning("%s", text)
        except ConfigError as error:
            _log.error("%s", error)

    def _note_end(self, acceptor: asyncio.Task[None]) -> None:
        """End the server rather than go on without accepting anybody."""
        if not acceptor.cancelled():
            _log.error("no connection is let in any more", exc_info=acceptor.exception())
            self.should_exit = True

    def reload_certificate(self) -> None:
        """Show new connections the certificate now in the files, or the old one if that is bad."""
        try:
            self._context = self._make_context()
        except ConfigError as error:
            _log.error("%s; the certificate stays as it was", error)
        else:
            _log.warning("read the certificate anew")
            self._tell_warnings()
