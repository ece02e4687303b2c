"""Sockets and TLS of the KBS: TLS 1.3 only, deadlines up to a request, a cap on connections.

uvicorn speaks HTTP/1.1; the application is `guest_owner.kbs.app`. One process, one thread.
"""

import asyncio
import socket
import ssl
from functools import partial
from pathlib import Path
from typing import cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ccinit.errors import ConfigError
from guest_owner.kbs.app import build_app
from guest_owner.kbs.authority import MAX_PEM_BYTES
from guest_owner.kbs.files import read_capped
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.service import Service


def build_server(
    service: Service, limits: Limits, *, certificate: Path, key: Path
) -> uvicorn.Server:
    """Return a server that is not listening yet.

    Raises:
        ConfigError: `tls.certificate`; `state.read`, `state.size`.
    """
    context = _tls_context(certificate, key)
    config = uvicorn.Config(
        build_app(service, limits),
        http=_deadline_protocol(limits.head_seconds),
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
        limit_concurrency=limits.connections,
        h11_max_incomplete_event_size=limits.head_bytes,
        timeout_graceful_shutdown=2,
        ssl_context_factory=lambda _config, _default: context,
    )
    return _DeadlineServer(config, limits.head_seconds)


def open_listener(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; port 0 takes a free one.

    Raises:
        ConfigError: `listen.address`.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(cast("tuple[str, int]", address[:2]), family=family)
        # Connections inherit it. asyncio sets it only on sockets made with an explicit protocol
        # number, and without it head and body of a reply are 40 ms apart.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name that could be looked up
        why = error.strerror if isinstance(error, OSError) else "no host name"
        detail = f"cannot listen on {host}:{port}: {why}"
        raise ConfigError("listen.address", detail) from error
    return listener


def _tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    # A resumed session shows no certificate; the guest wants to see it every time.
    context.num_tickets = 0
    try:
        for path in (certificate, key):
            read_capped(path, MAX_PEM_BYTES)  # OpenSSL does not say which one it cannot read
        context.load_cert_chain(certificate, key, password="")  # else OpenSSL asks a terminal
    except ssl.SSLError as error:
        why = error.reason or "is the key one with a passphrase? Remove it"
        detail = f"{certificate} and {key} are no certificate and its key in PEM: {why}"
        raise ConfigError("tls.certificate", detail) from error
    return context


class _DeadlineServer(uvicorn.Server):
    """uvicorn's server, with a deadline for TLS handshakes.

    It passes none on, and asyncio waits a minute for a peer that only connects: no cap counts such
    a connection, and each holds a descriptor.
    """

    def __init__(self, config: uvicorn.Config, seconds: float) -> None:
        super().__init__(config)
        self._seconds = seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        create = loop.create_server
        loop.create_server = partial(  # type: ignore[method-assign]
            create, ssl_handshake_timeout=self._seconds, ssl_shutdown_timeout=self._seconds
        )
        try:
            await super().startup(sockets)
        finally:
            loop.create_server = create  # type: ignore[method-assign]


def _deadline_protocol(head_seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with a deadline for the head of every request.

    uvicorn bounds the size of a head and the idle time between requests, but not how long a head
    may trickle in, and each such connection counts against the cap.
    """

    class DeadlineProtocol(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._start_head()

        def data_received(self, data: bytes) -> None:
            if self._between_requests() and self._head_timer is None:
                self._start_head()
            super().data_received(data)
            if not self._between_requests():
                self._stop_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_head()
            super().connection_lost(exc)

        def _between_requests(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _start_head(self) -> None:
            self._head_timer = self.loop.call_later(head_seconds, self.transport.close)

        def _stop_head(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

    return DeadlineProtocol
