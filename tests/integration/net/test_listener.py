"""What connections inherit from their listening socket."""

import socket
import time
from collections.abc import Callable

import pytest

from ccinit.kernel.listener import listen_loopback, listen_tcp

SECONDS = 10.0


def accepted(listener: socket.socket) -> socket.socket:
    """Connect, wait for the connection, and return its end here."""
    end = time.monotonic() + SECONDS
    with listener, socket.create_connection(("127.0.0.1", listener.getsockname()[1]), SECONDS):
        while True:
            try:
                return listener.accept()[0]
            except BlockingIOError:
                assert time.monotonic() < end
                time.sleep(0.01)


@pytest.mark.parametrize(("listen", "is_looked_for"), [(listen_tcp, 1), (listen_loopback, 0)])
def test_peer_of_the_network_is_looked_for_from_the_beginning(
    listen: Callable[[int], socket.socket], is_looked_for: int
) -> None:
    with accepted(listen(0)) as connection:
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == is_looked_for
