"""One connection's HTTP/1.1: uvicorn's, plus the protection from strangers that it lacks.

uvicorn bounds the size of a head and the idle time between requests, but neither how long a head
may trickle in nor how long a reply may wait for a peer that reads nothing. It also assumes that
malformed input can always be answered: after a reply, or during one, its own answer then fails,
with a page of log for each such connection. And h11 accepts a request with two lengths, and goes
on by one of them.

The content of requests is for `app`, TLS and sockets for `server`.
"""

import asyncio
from typing import Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from guest_owner.kbs.limits import Limits

_UNANSWERED: Final = (h11.IDLE, h11.SEND_RESPONSE)
_LENGTHS: Final = frozenset((b"content-length", b"transfer-encoding"))


class _Requests(h11.Connection):
    """Parses one connection's requests, and refuses one with two lengths.

    A proxy before the KBS may have used the other length. Then the two disagree about where the
    next request begins, and about whose it is: request smuggling (RFC 9112, section 6.1).
    """

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return what the peer sent next.

        Raises:
            h11.RemoteProtocolError: it is not HTTP, or has two lengths.
        """
        event = super().next_event()
        if isinstance(event, h11.Request) and _LENGTHS.issubset(dict(event.headers)):
            raise h11.RemoteProtocolError("a request with two lengths")
        return event


class HttpProtocol(H11Protocol):
    """The server's end of one connection, called by asyncio and by uvicorn's request cycle."""

    def __init__(self, limits: Limits, config: uvicorn.Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, app_state={})
        self.conn = _Requests(h11.SERVER, limits.head_bytes)
        self._limits = limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._reply_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, with a deadline for the first head."""
        super().connection_made(transport)
        self._start_head()

    def data_received(self, data: bytes) -> None:
        """Read on, and begin what was asked."""
        if self.transport.is_closing():
            return  # TLS still delivers data that had arrived before the close
        if self._between_requests() and self._head_timer is None:
            self._start_head()
        super().data_received(data)
        if not self._between_requests():
            self._stop_head()

    def send_400_response(self, msg: str) -> None:
        """Say that the input is malformed, if that can still be said, and close."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # discards what the application still answers
            self.cycle.message_event.set()
        if self.conn.our_state in _UNANSWERED:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Note that the peer does not read its reply, and set a deadline for that."""
        super().pause_writing()
        self._reply_timer = self.loop.call_later(self._limits.reply_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the peer reads its reply again."""
        super().resume_writing()
        self._stop_reply()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, for whatever reason."""
        self._stop_head()
        self._stop_reply()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether every request was answered, and every answer sent."""
        return self._between_requests() and not self.transport.get_write_buffer_size()

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_seconds, self.transport.close)

    def _stop_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_reply(self) -> None:
        if self._reply_timer is not None:
            self._reply_timer.cancel()
            self._reply_timer = None
