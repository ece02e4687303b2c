"""Joins standard input and output with one TCP connection: the program behind a guest forward.

QEMU starts it once per connection of the guest (`host_runtime.qemu.GuestForward`). It runs by path,
in isolated mode, so it imports nothing of ours: `python -I forward.py HOST PORT`.
"""

import selectors
import socket
import sys
from pathlib import Path

_PIECE_BYTES = 65536


def forward_command(host: str, port: int) -> tuple[str, ...]:
    """Return the command that forwards to `host`:`port`; its words hold no space."""
    return (sys.executable, "-I", str(Path(__file__).absolute()), host, str(port))


def forward(inside: socket.socket, outside: socket.socket) -> None:
    """Copy both ways until both sides have ended; a half-close is passed on."""
    other = {inside: outside, outside: inside}
    with selectors.DefaultSelector() as selector:
        for stream in other:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                source = inside if key.fileobj is inside else outside
                try:
                    data = source.recv(_PIECE_BYTES)
                    other[source].sendall(data)
                    if not data:
                        other[source].shutdown(socket.SHUT_WR)
                except OSError:  # reset by either side
                    return
                if not data:
                    selector.unregister(source)


def main() -> int:
    """Forward standard input (a socket, as QEMU gives it) to the address in the arguments.

    If nobody answers there the connection is closed, as a network would. QEMU makes it this
    program's standard error as well, so words about it would be the server's to the guest.
    """
    host, port = sys.argv[1], int(sys.argv[2])
    with socket.socket(fileno=0) as inside:
        try:
            outside = socket.create_connection((host, port), 10)
        except OSError:
            return 1
        with outside:
            outside.settimeout(None)
            forward(inside, outside)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
