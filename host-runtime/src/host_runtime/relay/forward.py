"""Joins standard input and output with one TCP connection: the program behind a guest forward.

QEMU starts it once per connection of the guest (`host_runtime.machine.qemu.GuestForward`). It runs
by path, in isolated mode, so it imports nothing of ours: `python -I forward.py HOST PORT`.
"""

import selectors
import socket
import sys
from pathlib import Path

_PIECE_BYTES = 65536
_SILENT_SECONDS = 600.0
"""For one side, once the other has ended: it may have vanished, and would occupy a connection."""


def forward_command(host: str, port: int) -> tuple[str, ...]:
    """Return the command that forwards to `host`:`port`; its words hold no space."""
    return (sys.executable, "-I", str(Path(__file__).absolute()), host, str(port))


class _Way:
    """One direction: at most one piece is held; what comes next waits in its source."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.piece = b""
        self.is_over = False

    def read(self) -> None:
        self.piece = self.source.recv(_PIECE_BYTES)
        if not self.piece:
            self.sink.shutdown(socket.SHUT_WR)
            self.is_over = True

    def write(self) -> None:
        self.piece = self.piece[self.sink.send(self.piece) :]


def forward(inside: socket.socket, outside: socket.socket) -> None:
    """Copy both ways until both sides have ended; a half-close is passed on.

    Neither direction waits for the other: a side that reads nothing for now may still send. After
    a half-close, the other direction goes on as long as bytes still come now and then.
    """
    ways = (_Way(inside, outside), _Way(outside, inside))
    for stream in (inside, outside):
        stream.settimeout(0)
    while not all(way.is_over for way in ways):
        # A new one each turn: what to wait for depends on which direction holds a piece.
        with selectors.PollSelector() as selector:
            for to, other in (ways, ways[::-1]):
                events = selectors.EVENT_WRITE if to.piece else 0
                if not other.piece and not other.is_over:
                    events |= selectors.EVENT_READ
                if events:
                    selector.register(to.sink, events, (to, other))
            ready = selector.select(_SILENT_SECONDS if any(way.is_over for way in ways) else None)
        if not ready:
            return
        try:
            for key, events in ready:
                to, other = key.data
                if events & selectors.EVENT_WRITE and to.piece:
                    to.write()
                if events & selectors.EVENT_READ and not other.piece:
                    other.read()
        except BlockingIOError:  # ready, and then not
            continue
        except OSError:  # reset by either side
            return


def main() -> int:
    """Forward standard input (a socket, as QEMU gives it) to the address in the arguments.

    If nobody answers there, the connection is closed, as a network would do. QEMU makes it standard
    error as well, so an error message would reach the guest as if from the server.
    """
    host, port = sys.argv[1], int(sys.argv[2])
    with socket.socket(fileno=0) as inside:
        try:
            outside = socket.create_connection((host, port), 10)
        except OSError:
            return 1
        with outside:
            forward(inside, outside)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
