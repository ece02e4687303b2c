"""One connection's HTTP/1.1: uvicorn's, with what it lacks against strangers.

uvicorn bounds the size of a head and the idle time between requests, but not how long a head may
trickle in, nor how long a reply may wait for a peer that reads nothing. And it takes what is no
HTTP for something that can always be answered: behind a reply, or beside one that is under way, it
stumbles over its own answer, with a page in the log for each such connection. And h11 takes a
request with two lengths by one of them, and goes on.

What requests ask is `guest_owner.kbs.app`'s, TLS and sockets are `guest_owner.kbs.server`'s.
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
    """Requests of one connection; what has two lengths is none.

    A proxy before the KBS may have taken it by the other one: then what follows is not what the
    proxy takes it for, and may come from somebody else. RFC 9112, section 6.1.
    """

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return what came next.

        Raises:
            h11.RemoteProtocolError: it is no HTTP.
        """
        event = super().next_event()
        if isinstance(event, h11.Request) and _LENGTHS.issubset(dict(event.headers)):
            raise h11.RemoteProtocolError("a request with two lengths")
        return event


class HttpProtocol(H11Protocol):
    """The server's end of one connection; asyncio calls it, and uvicorn's cycle of a request."""

    def __init__(self, limits: Limits, config: uvicorn.Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, app_state={})
        self.conn = _Requests(h11.SERVER, limits.head_bytes)
        self._limits = limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._reply_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; a head is waited for only so long."""
        super().connection_made(transport)
        self._start_head()

    def data_received(self, data: bytes) -> None:
        """Read on, and begin whatever was asked."""
        if self.transport.is_closing():
            return  # it was on its way: TLS brings it all the same
        if self._between_requests() and self._head_timer is None:
            self._start_head()
        super().data_received(data)
        if not self._between_requests():
            self._stop_head()

    def send_400_response(self, msg: str) -> None:
        """Say that what came is no HTTP, where that can still be said, and close."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # whoever still answers it speaks to nobody
            self.cycle.message_event.set()
        if self.conn.our_state in _UNANSWERED:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Note that the peer does not take what it was sent, and wait only so long."""
        super().pause_writing()
        self._reply_timer = self.loop.call_later(self._limits.reply_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the peer takes what it was sent."""
        super().resume_writing()
        self._stop_reply()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, for whatever reason."""
        self._stop_head()
        self._stop_reply()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether nothing was asked that is not answered, and all that was answered is sent."""
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
