"""Servers that never stop sending, over real TLS, so that there is never anything to wait for."""

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ccinit.errors import PeerError
from ccinit.net.http import HttpClient, HttpLimits
from ccinit.net.tls import pinned_context
from tests.fakes.network.tls_records import (
    HANDSHAKE,
    HELLO_REQUEST,
    TICKET,
    RecordWriter,
    plain_record,
)
from tests.fakes.network.tls_server import (
    Authority,
    TlsServer,
    make_authority,
    read_head,
    server_context,
)

FLOOD_SECONDS = 10.0
LIMITS = HttpLimits(wait_seconds=1.0, total_seconds=1.0)


def flood(connection: socket.socket, piece: Callable[[], bytes]) -> None:
    """Send one piece after the other, for much longer than the client has time."""
    end = time.monotonic() + FLOOD_SECONDS
    with suppress(OSError):
        while time.monotonic() < end:
            connection.sendall(piece())


def refusal(server: TlsServer, authority: Authority) -> str:
    """Return why the client gives up, in its time."""
    begun = time.monotonic()
    with (
        HttpClient(pinned_context(authority.pem, check_time=True)) as client,
        pytest.raises(PeerError) as refused,
    ):
        client.request("GET", server.url(), limits=LIMITS)
    assert time.monotonic() - begun < FLOOD_SECONDS / 2
    return refused.value.reason


def test_r31_network_that_never_comes_to_its_hello_ends_at_the_total_deadline() -> None:
    """Whoever is on the way can do it. Many small records keep a client busiest."""
    piece = plain_record(HELLO_REQUEST) * 100_000

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        flood(connection, lambda: piece)

    with TlsServer(None, serve) as hostile:
        assert refusal(hostile, make_authority()) in {"net.deadline", "net.timeout"}


PIECES: dict[str, Callable[[RecordWriter], bytes]] = {
    "tickets": lambda writer: writer.record(HANDSHAKE, TICKET * 800),
    "updates": lambda writer: writer.key_update(asks=True),
}


@pytest.mark.parametrize("name", PIECES)
def test_r31_server_that_always_has_a_record_without_data_ends_at_the_total_deadline(
    tmp_path: Path, name: str
) -> None:
    authority = make_authority()
    context = server_context(authority.issue())
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.keylog_filename = str(tmp_path / "keys")

    def serve(connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        read_head(connection)
        writer = RecordWriter(tmp_path / "keys", connection)
        with socket.socket(fileno=connection.detach()) as plain:
            flood(plain, lambda: PIECES[name](writer))

    with TlsServer(context, serve) as hostile:
        assert refusal(hostile, authority) in {"net.deadline", "net.timeout"}
