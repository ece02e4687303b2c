"""A client's TLS over a socket: what it returns, and that nothing takes more than its time."""

import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ccinit.net import tls_socket
from ccinit.net.tls import is_cut_off, pinned_context
from ccinit.net.tls_socket import TlsSocket
from tests.fakes.network.tls_records import (
    ALERT,
    DATA,
    HANDSHAKE,
    HELLO_REQUEST,
    TICKET,
    RecordWriter,
    plain_record,
)
from tests.fakes.network.tls_server import make_authority, server_context

AUTHORITY = make_authority()
CLOSE_NOTIFY = b"\1\0"
FORGED_RECORD = b"\x17\x03\x03\x00\x20" + bytes(32)
SECONDS = 10.0


class Line:
    """A socket; once there is a flood, its peer never stops, and each piece takes a second."""

    def __init__(self, plain: socket.socket, now: list[float]) -> None:
        self.flood: Callable[[], bytes] | None = None
        self._plain = plain
        self._now = now

    def settimeout(self, seconds: float) -> None:
        self._plain.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        if self.flood is None:
            return self._plain.recv(size)
        self._now[0] += 1.0
        return self.flood()

    def sendall(self, data: bytes) -> None:
        if self.flood is None:
            self._plain.sendall(data)

    def close(self) -> None:
        self._plain.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(tls_socket, "boottime", lambda: now[0])
    return now


class World:
    """A client that has shaken hands with a server, whose records are written by the test."""

    def __init__(self, folder: Path, now: list[float]) -> None:
        ours, self.server = socket.socketpair()
        self.line = Line(ours, now)
        played: Any = self.line
        context = server_context(AUTHORITY.issue())
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0  # else the first records would be OpenSSL's
        key_log = folder / "keys"
        context.keylog_filename = str(key_log)
        client = pinned_context(AUTHORITY.pem, check_time=True)
        self.tls = TlsSocket(played, client, "localhost")
        self.tls.settimeout(SECONDS)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        theirs = context.wrap_bio(incoming, outgoing, server_side=True)

        def shake() -> None:
            while True:
                try:
                    theirs.do_handshake()
                except ssl.SSLWantReadError:
                    self.server.sendall(outgoing.read())
                    incoming.write(self.server.recv(65536))
                else:
                    return

        with ThreadPoolExecutor() as pool:
            shaken = pool.submit(shake)
            self.tls.do_handshake()
            shaken.result()
        self.incoming, self.theirs = incoming, theirs
        self.writer = RecordWriter(key_log, theirs)

    def send(self, *contents: bytes, more: bytes = b"") -> None:
        """Send a record for each, and what is to follow them, in one piece."""
        self.server.sendall(b"".join(map(self.record, contents)) + more)

    def record(self, content: bytes) -> bytes:
        return self.writer.record(DATA, content)


@pytest.fixture
def world(tmp_path: Path, clock: list[float]) -> Iterator[World]:
    made = World(tmp_path, clock)
    yield made
    made.tls.close()
    made.server.close()


def test_data_of_several_records_comes_at_once_and_no_more_than_asked_for(world: World) -> None:
    world.send(b"one", b"two", b"three")
    assert world.tls.recv(4) == b"onet"
    assert world.tls.recv(100) == b"wothree"
    world.tls.settimeout(0.01)
    with pytest.raises(TimeoutError):
        world.tls.recv(100)


def test_what_is_sent_arrives(world: World) -> None:
    assert world.tls.send(memoryview(b"request")) == 7
    world.incoming.write(world.server.recv(65536))
    assert world.theirs.read() == b"request"


def test_end_of_tls_behind_data_is_told_by_the_next_read(world: World) -> None:
    world.server.sendall(world.record(b"one") + world.writer.record(ALERT, CLOSE_NOTIFY))
    assert world.tls.recv(100) == b"one"
    assert [world.tls.recv(100), world.tls.recv(100)] == [b"", b""]


@pytest.mark.parametrize("piece", [FORGED_RECORD, b""], ids=["forged", "cut off"])
def test_failure_behind_data_is_told_by_the_next_read(world: World, piece: bytes) -> None:
    world.send(b"one", more=piece)
    world.server.shutdown(socket.SHUT_WR)
    assert world.tls.recv(100) == b"one"
    with pytest.raises(ssl.SSLError) as failed:
        world.tls.recv(100)
    assert is_cut_off(failed.value) == (piece == b"")


def test_what_has_come_unasked_is_seen(world: World) -> None:
    world.send(b"one")
    assert world.tls.recv(3) == b"one"
    assert not world.tls.has_unread
    world.send(b"one", b"two")
    assert world.tls.recv(3) == b"one"
    assert world.tls.has_unread


def test_rest_of_a_record_is_unread(world: World) -> None:
    world.send(b"onetwo")
    assert world.tls.recv(3) == b"one"
    assert world.tls.has_unread
    assert world.tls.recv(3) == b"two"
    assert not world.tls.has_unread


@pytest.mark.parametrize("kind", ["end", "failure"])
def test_end_or_failure_behind_data_is_unread(world: World, kind: str) -> None:
    """The socket need not be readable: the peer may close it later, or only its TLS."""
    data = world.record(b"one")
    last = world.writer.record(ALERT, CLOSE_NOTIFY) if kind == "end" else FORGED_RECORD
    world.server.sendall(data + last)
    assert world.tls.recv(100) == b"one"
    assert world.tls.has_unread


def test_update_of_the_peers_key_is_answered(world: World) -> None:
    world.server.sendall(world.writer.key_update(asks=True))
    world.send(b"one")
    assert world.tls.recv(100) == b"one"
    world.tls.send(b"request")
    world.incoming.write(world.server.recv(65536))
    assert world.theirs.read() == b"request"


FLOODS: dict[str, Callable[[RecordWriter], bytes]] = {
    "tickets": lambda writer: writer.record(HANDSHAKE, TICKET * 100),
    "updates": lambda writer: writer.key_update(asks=False),
    "updates that ask": lambda writer: writer.key_update(asks=True),
}


@pytest.mark.parametrize("name", FLOODS)
def test_peer_that_always_has_a_record_without_data_gets_its_time(
    world: World, clock: list[float], name: str
) -> None:
    world.line.flood = lambda: FLOODS[name](world.writer)
    with pytest.raises(TimeoutError):
        world.tls.recv(100)
    assert clock[0] == 100.0 + SECONDS


def test_peer_that_never_comes_to_its_hello_gets_its_time(clock: list[float]) -> None:
    """Whoever is on the way can play it: there is no certificate yet."""
    ours, theirs = socket.socketpair()
    line: Any = Line(ours, clock)
    line.flood = lambda: plain_record(HELLO_REQUEST * 100)
    tls = TlsSocket(line, pinned_context(AUTHORITY.pem, check_time=True), "localhost")
    tls.settimeout(SECONDS)
    with ours, theirs, pytest.raises(TimeoutError):
        tls.do_handshake()
    assert clock[0] == 100.0 + SECONDS


def test_peer_whose_certificate_is_refused_is_told_why() -> None:
    ours, theirs = socket.socketpair()
    context = server_context(make_authority(subject="other").issue())

    def serve() -> str:
        try:
            with context.wrap_socket(theirs, server_side=True) as secured:
                return str(secured.version())
        except ssl.SSLError as error:
            return str(error.reason)

    with ours, theirs, ThreadPoolExecutor() as pool:
        served = pool.submit(serve)
        tls = TlsSocket(ours, pinned_context(AUTHORITY.pem, check_time=True), "localhost")
        tls.settimeout(SECONDS)
        with pytest.raises(ssl.SSLCertVerificationError):
            tls.do_handshake()
        assert served.result() == "TLSV1_ALERT_UNKNOWN_CA"
