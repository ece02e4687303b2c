"""Connections of the KBS: accepting them, counting them, and dropping some to make room.

Anybody who reaches the port can connect, and nothing is known about a peer before TLS is up and its
request is complete. So there is a cap on all connections, handshakes included. At the cap, a new
connection pushes out one chosen at random: during a flood a guest still gets through if it is done
before chance hits it. Turning newcomers away instead would shut out all guests for as long as
somebody keeps sockets open. The cap also keeps descriptors from running out, which would look like
an unreadable state.

What happens within a connection is the business of `guest_owner.kbs.http.server` and of uvicorn.
"""

import asyncio
import logging
import resource
import secrets
import socket
import ssl
from collections.abc import Callable
from typing import Final, Protocol

from guest_owner.kbs.notices import Notices

_RESERVED_DESCRIPTORS: Final = 64  # for files of the state, and those of the process
_RETRY_SECONDS: Final = 0.1

# OpenSSL's name of a received alert: its name in RFC 8446 section 6, and what it means here.
_ALERTS: Final = {
    "TLSV1_ALERT_UNKNOWN_CA": ("unknown_ca", "its kbs.ca is not what signed the certificate"),
    "SSLV3_ALERT_BAD_CERTIFICATE": ("bad_certificate", "is the host of its kbs.url a name in it?"),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": ("certificate_expired", "sign another, or set the clock"),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": ("certificate_unknown", "it does not say why"),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": ("unsupported_certificate", "its usage, or its key"),
}

_log = logging.getLogger(__name__)


class Established(Protocol):
    """A connection whose TLS handshake is over."""

    transport: asyncio.Transport


class Connections:
    """Accepts connections on listening sockets, up to a cap on those that are open."""

    def __init__(
        self,
        *,
        room: int,
        seconds: float,
        established: set[Established],
        observe: Callable[[str], None],
    ) -> None:
        """Nothing is accepted yet.

        Args:
            room: the cap, or less if the process may not open that many files.
            seconds: for a TLS handshake, and for the end of TLS.
            established: the connections whose handshake is over.
            observe: gets the name of each alert about the KBS's certificate.
        """
        self._room = _find_room(room)
        self._seconds = seconds
        self._established = established
        self._observe = observe
        self._handshakes: set[asyncio.Task[None]] = set()
        self._notices = Notices(_log.warning)

    async def accept_all(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
    ) -> None:
        """Accept connections until cancelled; `context` is called for each of them."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._notices.tell("accept", f"cannot accept a connection: {error.strerror}")
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._make_room()
            task = loop.create_task(self._do_handshake(accepted, make_protocol, context()))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)
            # If a client is waiting already, accepting it lets no other task run. After two turns
            # a transport owns the socket, so that cancelling the task closes it.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def end_handshakes(self) -> None:
        """Drop all connections that are still in their TLS handshake."""
        for handshake in self._handshakes:
            handshake.cancel()

    def _make_room(self) -> None:
        # A finished handshake's connection is among the established: do not count it twice.
        handshakes = (one for one in self._handshakes if not one.done())
        there: list[asyncio.Task[None] | Established] = [*handshakes, *self._established]
        if len(there) < self._room:
            return
        self._notices.tell(
            "room", f"{len(there)} connections are open, and no more may be: new ones push out some"
        )
        victim = secrets.choice(there)
        # Forget the victim at once, so that it cannot be chosen again in place of another.
        if isinstance(victim, asyncio.Task):
            victim.cancel()
            self._handshakes.discard(victim)
        else:
            victim.transport.abort()
            self._established.discard(victim)

    async def _do_handshake(
        self,
        accepted: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
    ) -> None:
        peer = _peer_of(accepted)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                make_protocol,
                accepted,
                ssl=context,
                ssl_handshake_timeout=self._seconds,
                ssl_shutdown_timeout=self._seconds,
            )
        except ssl.SSLError as error:
            self._note_alert(peer, error.reason)
        except OSError:
            return  # it has gone, or was too slow

    def _note_alert(self, peer: str, reason: str | None) -> None:
        if reason not in _ALERTS:
            return
        alert, meaning = _ALERTS[reason]
        self._observe(alert)
        self._notices.tell(alert, f"{peer} refuses our certificate ({alert}): {meaning}")


def _find_room(wanted: int) -> int:
    """Raise the limit of open files for `wanted` connections; return how many there may be."""
    needed = wanted + _RESERVED_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return wanted
    allowed = min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    room = max(1, wanted - (needed - allowed))
    if room < wanted:
        _log.warning(
            "room for %d of %d connections: %d files may be open, %d would have to be (ulimit -Hn)",
            *(room, wanted, hard, needed),
        )
    return room


def _peer_of(accepted: socket.socket) -> str:
    try:
        return str(accepted.getpeername()[0])
    except OSError:
        return "who has gone"
