"""An HTTP proxy for tests: CONNECT only, one thread for each direction, to loopback."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.fakes.network.tls_server import read_head


@dataclass
class ConnectProxy:
    """A running proxy.

    Attributes:
        refusal: answer to every request, instead of a connection.
        refusals: answers to the next requests, before any other.
        asked: the targets, in order.
    """

    listener: socket.socket
    refusal: bytes = b""
    refusals: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        with suppress(OSError):  # shut down at the end
            while True:
                client, _address = self.listener.accept()
                thread = threading.Thread(target=self._answer, args=(client,))
                self.threads.append(thread)
                thread.start()

    def _answer(self, client: socket.socket) -> None:
        with suppress(OSError), client:  # a client may go away
            target = read_head(client).split(b" ", 2)[1].decode()
            self.asked.append(target)
            refusal = self.refusals.pop(0) if self.refusals else self.refusal
            if refusal:
                client.sendall(refusal)
                return
            host, _colon, port = target.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_copy, args=(server, client))
                back.start()
                _copy(client, server)
                back.join(timeout=10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def running_proxy() -> Iterator[ConnectProxy]:
    """Listen on a free port of loopback until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = ConnectProxy(listener)
        thread = threading.Thread(target=proxy.serve)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for one in (thread, *proxy.threads):
                one.join(timeout=60)
