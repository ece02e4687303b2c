"""The local ends of vsock connections: Unix sockets in the "hybrid vsock" convention.

A client connects to PATH, writes `CONNECT <port>` and a newline, and reads `OK <port>` and a
newline once the guest has accepted; a refusal is a closed socket. A guest's connection to port P of
the host goes to the Unix socket PATH_P. A client that ends its half before it is answered has given
up. `host_runtime.vsock.connections` has the states of connections.
"""

import logging
import selectors
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from host_runtime.vsock.connection import Connection, Phase
from host_runtime.vsock.connections import ConnectionTable
from host_runtime.vsock.packets import Shutdown
from measured_boot.command_line.errors import describe_error

_GREETING_MAX_BYTES: Final = 32  # "CONNECT 4294967295\r\n" and a little
_PAUSE_SECONDS: Final = 0.1
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

_log = logging.getLogger(__name__)


class LocalEnd:
    """One Unix socket and what is still to be said on it outside the stream."""

    def __init__(self, stream: socket.socket, connection: Connection | None) -> None:
        self.stream = stream
        self.connection = connection
        self.greeting = bytearray()
        self.prefix = b""
        self.is_greeted = connection is not None
        self.interest = 0


class Endpoints:
    """All local ends of one guest, registered in the device's selector.

    A registration's data is the `LocalEnd`, or this object itself for the listening socket.
    """

    def __init__(
        self, *, path: Path, selector: selectors.BaseSelector, table: ConnectionTable
    ) -> None:
        self._path = path
        self._selector = selector
        self._table = table
        self._ends: dict[Connection, LocalEnd] = {}
        self._waiting: set[LocalEnd] = set()  # connected, but without a greeting yet
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        self._listener.listen(table.limits.connections)
        self._paused_until: float | None = None
        self._told: set[str] = set()
        selector.register(self._listener, _READ, self)

    def close(self) -> None:
        """Close every socket and remove the listening one's path."""
        self.close_connections()
        for end in tuple(self._waiting):
            self._drop(end)
        if self._paused_until is None:
            self._selector.unregister(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def close_connections(self) -> None:
        """Close the local ends of all connections: the guest is gone or was reset."""
        self._table.clear()
        for end in tuple(self._ends.values()):
            self._drop(end)

    def accept(self) -> None:
        """Accept one client from the listening socket, or pause accepting if that fails.

        A waiting client keeps the socket ready, so without the pause the loop would spin until a
        descriptor is free.
        """
        try:
            stream, _ = self._listener.accept()
        except OSError as error:  # the client left meanwhile, or no descriptors are left
            self._complain(f"cannot accept a connection: {describe_error(error)}")
            self._selector.unregister(self._listener)
            self._paused_until = time.monotonic() + _PAUSE_SECONDS
            return
        stream.settimeout(0)
        end = LocalEnd(stream, None)
        if len(self._waiting) >= self._table.limits.connections:
            stream.close()
            return
        self._waiting.add(end)
        self._watch(end, _READ)

    def pause_seconds(self) -> float | None:
        """Return in how many seconds to call `resume`; None if accepting is not paused."""
        if self._paused_until is None:
            return None
        return max(0.0, self._paused_until - time.monotonic())

    def resume(self) -> None:
        """Accept clients again, if that was paused and it is time."""
        if self.pause_seconds() == 0:
            self._paused_until = None
            self._selector.register(self._listener, _READ, self)

    def handle(self, end: LocalEnd) -> None:
        """Read from and write to `end`, which is ready for something it is watched for."""
        if end.connection is None:
            self._read_greeting(end)
            return
        self._read(end, end.connection)
        self.refresh((end.connection,))

    def refresh(self, connections: Iterable[Connection]) -> None:
        """Bring the local ends of changed connections up to date with their state."""
        for connection in connections:
            if connection.phase is Phase.OPENING:
                self._open_guest_connection(connection)
            end = self._ends.get(connection)
            if end is not None:
                self._refresh(end, connection)

    def _open_guest_connection(self, connection: Connection) -> None:
        """Connect the local end that the guest asked for, or refuse."""
        try:
            stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:  # no descriptors are left
            self._complain(f"cannot connect to a local program: {describe_error(error)}")
            self._table.reset(connection)
            return
        try:
            stream.connect(f"{self._path}_{connection.local_port}")
        except OSError:  # nobody listens, or does not keep up: the guest may try again
            stream.close()
            self._table.reset(connection)
            return
        self._ends[connection] = LocalEnd(stream, connection)
        connection.accept()

    def _refresh(self, end: LocalEnd, connection: Connection) -> None:
        # Not by `phase`: one turn may have brought both the answer and the end of the connection.
        if connection.is_answered and not end.is_greeted:
            end.is_greeted = True
            end.prefix = f"OK {connection.local_port}\n".encode()
        try:
            self._flush(end, connection)
        except OSError:  # the client is gone
            self._table.reset(connection)
        self._table.update(connection)
        has_bytes = bool(end.prefix or connection.to_local)
        if connection.phase is Phase.CLOSED:
            self._drop(end)
            return
        if connection.guest_ended & Shutdown.SEND and not has_bytes:
            _shut_write(end.stream)
        wants = connection.wants_local_bytes() > 0
        self._watch(end, (_READ if wants else 0) | (_WRITE if has_bytes else 0))

    def _flush(self, end: LocalEnd, connection: Connection) -> None:
        try:
            while end.prefix:
                end.prefix = end.prefix[end.stream.send(end.prefix, socket.MSG_NOSIGNAL) :]
            while connection.to_local:
                first = connection.to_local[0]
                count = end.stream.send(first, socket.MSG_NOSIGNAL)
                if count == len(first):
                    connection.to_local.popleft()
                else:
                    connection.to_local[0] = first[count:]
                connection.forwarded(count)
        except BlockingIOError:
            return

    def _read(self, end: LocalEnd, connection: Connection) -> None:
        wanted = connection.wants_local_bytes()
        if not wanted:
            return
        try:
            data = end.stream.recv(wanted)
        except BlockingIOError:
            return
        except OSError:
            self._table.reset(connection)
            return
        if not data and connection.phase is Phase.REQUESTED:
            self._table.reset(connection)
        else:
            connection.local_data(data)

    def _read_greeting(self, end: LocalEnd) -> None:
        try:
            data = end.stream.recv(_GREETING_MAX_BYTES - len(end.greeting))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        end.greeting += data
        line, found, rest = bytes(end.greeting).partition(b"\n")
        if not found and data and len(end.greeting) < _GREETING_MAX_BYTES:
            return
        port = _parse_greeting(line) if found else None
        connection = None if port is None else self._table.open(port)
        if connection is None:
            self._drop(end)
            return
        self._waiting.discard(end)
        end.connection = connection
        self._ends[connection] = end
        if rest:
            connection.local_data(rest)  # to be sent once the guest has answered

    def _complain(self, text: str) -> None:
        """Log each fault once: a guest may cause it as often as it likes."""
        if text not in self._told:
            self._told.add(text)
            _log.warning("%s", text)

    def _watch(self, end: LocalEnd, interest: int) -> None:
        if interest == end.interest:
            return
        if not end.interest:
            self._selector.register(end.stream, interest, end)
        elif not interest:
            self._selector.unregister(end.stream)
        else:
            self._selector.modify(end.stream, interest, end)
        end.interest = interest

    def _drop(self, end: LocalEnd) -> None:
        self._watch(end, 0)
        self._waiting.discard(end)
        if end.connection is not None:
            self._ends.pop(end.connection, None)
        end.stream.close()


def _parse_greeting(line: bytes) -> int | None:
    word, _, number = line.removesuffix(b"\r").partition(b" ")
    if word != b"CONNECT" or not number.isdigit():
        return None
    port = int(number)
    return port if port < 1 << 32 else None


def _shut_write(stream: socket.socket) -> None:
    """Let the client find the end of what it reads; to say so again changes nothing."""
    try:
        stream.shutdown(socket.SHUT_WR)
    except OSError:  # the client left first
        return
