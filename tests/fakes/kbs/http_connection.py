"""One connection to the KBS's HTTP server, without a socket: bytes in, bytes out, no time."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from guest_owner.kbs.http.protocol import HttpProtocol
from guest_owner.kbs.limits import Limits

_TURNS: Final = 16  # of the loop: more than any answer of ours takes


class Transport(asyncio.Transport):
    """Keeps what is written; closed, it may still bring what was on its way, as TLS does."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closed:
            self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        """Read on all the same: a hostile network does not care."""

    def resume_reading(self) -> None:
        """It was never paused."""

    def get_write_buffer_size(self) -> int:
        return 0


class HttpConnection:
    """The server's end; made and driven within a running loop."""

    def __init__(self, app: Callable[..., Any], limits: Limits) -> None:
        self.transport = Transport()
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_config=None,
            log_level="error",
        )
        config.load()
        self._protocol = HttpProtocol(limits, config, ServerState())
        self._protocol.connection_made(self.transport)

    async def send(self, data: bytes) -> None:
        """Let bytes arrive, and the server do what it can."""
        self._protocol.data_received(data)
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def lose(self) -> None:
        """Let the connection end."""
        self._protocol.connection_lost(None)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
