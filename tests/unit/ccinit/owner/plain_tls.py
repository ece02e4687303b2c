"""A TLS that encrypts nothing, for tests of what goes on around it."""

import socket


class PlainTls:
    """Passes bytes on as they are; the socket is there to be waited for.

    Attributes:
        pieces: what the client sends, one for each time that its socket is found readable.
        uris: of its certificate.
        closes: once it has sent everything.
        drips: how often it sends a part of a record that has no end, before everything else.
    """

    group = 0x11EC

    def __init__(self, client: socket.socket) -> None:
        self.pieces: list[bytes] = []
        self.uris: tuple[str, ...] = ("urn:ccinit:role:exec",)
        self.shakes = True
        self.closes = True
        self.drips = 0
        self.is_closed = False
        self._client = client
        self._waiting: list[bytes] = []
        self._out = b""

    def start(self) -> None:
        if self.pieces or self.closes or self.drips:
            self._client.send(b"!")

    def do_handshake(self) -> bool:
        return self.shakes

    def peer_names(self) -> tuple[str, tuple[str, ...]]:
        return "ops", self.uris

    def feed(self, data: bytes) -> None:
        assert data == b"!"
        if self.drips:
            self.drips -= 1
            self.start()
            return
        self._waiting.append(self.pieces.pop(0) if self.pieces else b"")
        if self._waiting[-1]:
            self.start()

    def read(self) -> bytes | None:
        return self._waiting.pop(0) if self._waiting else None

    def write(self, data: bytes) -> None:
        self._out += data

    def take(self) -> bytes:
        data, self._out = self._out, b""
        return data

    def close(self) -> None:
        self.is_closed = True
