"""A client's TLS over a connected socket, on which no peer can take more than its time.

`ssl.SSLSocket` looks at its timeout only when it has to wait. A peer that has one more record ready
each time which brings no data (a session ticket, an update of its key, or during the handshake a
HelloRequest, for which it needs no certificate) keeps a single call of OpenSSL busy for as long as
it likes. So here OpenSSL gets one piece of ciphertext at a time, and between two pieces the clock
is read. HTTP, and what a failure means, are left to `ccinit.net.stream`.
"""

import socket
import ssl
from contextlib import suppress

from ccinit.kernel.clock import boottime

_PIECE_BYTES = 64 * 1024
"""Of ciphertext: four records. A smaller piece costs more calls of the kernel."""


class TlsSocket:
    """Has the operations of a socket that the client uses, which raise the same errors."""

    def __init__(
        self, plain: socket.socket, context: ssl.SSLContext, server_name: str | None
    ) -> None:
        """Nothing is sent yet; `plain` is closed with this.

        Raises:
            ValueError: no certificate can have that name.
        """
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._seconds = 0.0
        self._ended = False
        self._failure: ssl.SSLError | None = None

    @property
    def has_unread(self) -> bool:
        """Whether more has been received than was read: data, an end, or a failure behind data."""
        is_over = self._ended or self._failure is not None
        return is_over or bool(self._tls.pending() or self._incoming.pending)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._plain.fileno()

    def settimeout(self, seconds: float) -> None:
        """Give each of the next operations so many seconds, all its waits and records together."""
        self._seconds = seconds

    def close(self) -> None:
        """Close the socket, without a close_notify."""
        self._plain.close()

    def do_handshake(self) -> None:
        """Shake hands.

        Raises:
            OSError: TimeoutError, ssl.SSLError, or what the socket says.
        """
        end = boottime() + self._seconds
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush(end)
                self._receive(end)
            except ssl.SSLError:
                with suppress(OSError):
                    self._flush(end)  # the alert, which tells the peer why
                raise
            else:
                self._flush(end)
                return

    def recv(self, max_bytes: int) -> bytes:
        """Wait for data and return what has come, of several records if there are; none is the end.

        A failure behind data is raised by the next call.

        Raises:
            OSError: as `do_handshake`; without a close_notify, see `tls.is_cut_off`.
        """
        end = boottime() + self._seconds
        while (data := self._decrypt(max_bytes)) is None:
            self._flush(end)  # the answer to an update of the peer's key
            self._receive(end)
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Send data and return how much that was.

        Raises:
            OSError: as `do_handshake`.
        """
        end = boottime() + self._seconds
        count = self._tls.write(data)
        self._flush(end)
        return count

    def _decrypt(self, max_bytes: int) -> bytes | None:
        """Return the data in what was received: None if that holds none yet."""
        if self._failure is not None:
            raise self._failure
        parts: list[bytes] = []
        left = max_bytes
        while left:
            try:
                part = self._tls.read(left)
            except ssl.SSLWantReadError:
                return b"".join(parts) or None
            except ssl.SSLError as error:
                if not parts:
                    raise
                self._failure = error
                break
            if not part:
                self._ended = True
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _receive(self, end: float) -> None:
        data = self._until(end).recv(_PIECE_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self, end: float) -> None:
        if self._outgoing.pending:
            self._until(end).sendall(self._outgoing.read())

    def _until(self, end: float) -> socket.socket:
        left = end - boottime()
        if left <= 0:
            raise TimeoutError
        self._plain.settimeout(left)
        return self._plain
