"""How a connection ends, over real TLS: the answers come before the end, and the log says why."""

import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import FormatError, PeerError
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_wire import (
    MessageReader,
    Refused,
    Reply,
    encode_request,
)
from ccinit.net.tls_server import ServerConnection, server_context
from ccinit.owner.connection import Connection, ConnectionLimits
from ccinit.owner.messages import CallAnswer
from ccinit.owner.session import Call
from ccinit.secret import Secret
from tests.fakes.network.tls_server import identity_pem, make_authority

AUTHORITY = make_authority()
CLIENT = AUTHORITY.issue((), usage=ExtendedKeyUsageOID.CLIENT_AUTH, uris=("urn:ccinit:role:admin",))
UNKNOWN = encode_request(7, "reboot", ())
REFUSAL = Refused(code=RpcError.BADREQ, reason="owner.method", detail="no such method")
FORGED_RECORD = b"\x17\x03\x03\x00\x20" + bytes(32)


def carry(_call: Call, _wait_for: Callable[[int], None]) -> tuple[CallAnswer, tuple[int, ...]]:
    raise RuntimeError("no call of these tests is carried out")


class World:
    """A client that has shaken hands, and the guest's end, served in a thread."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self._socket, self._theirs = socket.socketpair()
        self.served: Future[None] = pool.submit(self._serve)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=AUTHORITY.pem)
        identity = folder / "client.pem"
        identity.write_bytes(identity_pem(CLIENT))
        context.load_cert_chain(identity)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="shop")
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send()
                self._incoming.write(self._socket.recv(65536))
            else:
                break
        self.send()

    def _serve(self) -> None:
        with self._theirs:
            identity = Secret(identity_pem(AUTHORITY.issue(("shop",))))
            tls = ServerConnection(server_context(identity, AUTHORITY.pem))
            connection = Connection(self._theirs.fileno(), tls, carry, ConnectionLimits())
            connection.do_handshake()
            connection.serve()

    def write(self, data: bytes) -> None:
        self._tls.write(data)

    def end(self) -> None:
        with pytest.raises(ssl.SSLError):
            self._tls.unwrap()  # waits for the guest's answer

    def send(self, more: bytes = b"") -> None:
        """Send all that was written, in one piece."""
        self._socket.sendall(self._outgoing.read() + more)

    def received(self) -> bytes:
        """Return all that the guest has sent up to the end of its TLS."""
        while data := self._socket.recv(65536):
            self._incoming.write(data)
        found = b""
        with suppress(ssl.SSLZeroReturnError):
            while data := self._tls.read(65536):
                found += data
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ThreadPoolExecutor() as pool:
        made = World(tmp_path, pool)
        try:
            yield made
        finally:
            made.close()


def test_answer_to_a_client_that_has_said_its_last_word_precedes_the_end(world: World) -> None:
    world.write(UNKNOWN)
    world.end()
    world.send()
    assert list(MessageReader(of_guest=False).feed(world.received())) == [
        Reply(msgid=7, outcome=REFUSAL)
    ]
    world.served.result(timeout=10)


def test_message_that_breaks_the_form_behind_a_call_is_why_it_ends(world: World) -> None:
    world.write(UNKNOWN + b"\xc1")
    world.send()
    assert world.received()
    with pytest.raises(FormatError) as ended:
        world.served.result(timeout=10)
    assert ended.value.reason == "owner.message"


def test_record_that_breaks_tls_behind_a_call_is_why_it_ends(world: World) -> None:
    world.write(UNKNOWN)
    world.send(FORGED_RECORD)
    with pytest.raises(PeerError) as ended:
        world.served.result(timeout=10)
    assert ended.value.reason == "net.tls"
