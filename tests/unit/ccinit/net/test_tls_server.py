"""The server's end of the owner plane's TLS, over memory: who gets in, and by what."""

import datetime as dt
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import CcinitError, PeerError
from ccinit.net.tls_server import ServerConnection, server_context
from ccinit.secret import Secret
from tests.fakes.machine.scarcity import count_descriptors
from tests.fakes.network.tls_server import DAY, Key, make_authority

ROLE = "urn:ccinit:role:admin"
OURS, OWNER, STRANGER = (make_authority() for _ in range(3))
Identity = tuple[Key, x509.Certificate]


def pem(identity: Identity) -> bytes:
    key, certificate = identity
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


GUEST = OURS.issue(("shop",))
ADMIN = OWNER.issue(
    ("ops.example", "192.0.2.7"),
    usage=ExtendedKeyUsageOID.CLIENT_AUTH,
    subject="ops",
    uris=(ROLE,),
)


class Client:
    """An owner's client, and the connection that it has to the guest."""

    def __init__(self, folder: Path, identity: Identity | None = ADMIN) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(cadata=OURS.pem)
        if identity is not None:
            path = folder / "identity.pem"
            path.write_bytes(pem(identity))
            self.context.load_cert_chain(path)
        self.guest = ServerConnection(server_context(Secret(pem(GUEST)), OWNER.pem))

    def start(self) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.context.wrap_bio(self._in, self._out, server_hostname="shop")

    def do_handshake(self) -> None:
        """Pass flights until both are done."""
        self.start()
        is_done = False
        while not is_done:
            try:
                self.tls.do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                pass
            self.send()
            is_done &= self.guest.do_handshake()
            self._in.write(self.guest.take())

    def send(self) -> None:
        if self._out.pending:
            self.guest.feed(self._out.read())

    def receive(self) -> bytes:
        self._in.write(self.guest.take())
        return self.tls.read()


def refusal(client: Client) -> str:
    with pytest.raises(PeerError) as refused:
        client.do_handshake()
    return refused.value.reason


def test_client_of_the_owner_is_known_by_its_certificate(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.do_handshake()
    assert client.guest.peer_names() == ("ops", (ROLE,))
    assert client.tls.version() == "TLSv1.3"


@pytest.mark.parametrize(("curve", "group"), [("secp384r1", 0x0018), ("prime256v1", 0x0017)])
def test_key_exchange_is_told_by_its_number(tmp_path: Path, curve: str, group: int) -> None:
    client = Client(tmp_path)
    client.context.set_ecdh_curve(curve)
    client.do_handshake()
    assert client.guest.group == group


def test_client_gets_no_ticket_to_come_back_with(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.do_handshake()
    client.guest.write(b"x")
    assert client.receive() == b"x"
    session = client.tls.session
    assert session is None or not session.has_ticket


def test_bytes_go_both_ways_until_the_client_ends_it(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.do_handshake()
    assert client.guest.read() is None
    client.tls.write(b"question")
    client.send()
    assert client.guest.read() == b"question"
    client.guest.write(b"x" * 100_000)
    received = b""
    while len(received) < 100_000:
        received += client.receive()
    assert received == b"x" * 100_000
    with pytest.raises(ssl.SSLError):
        client.tls.unwrap()
    client.send()
    assert client.guest.read() == b""


def test_connection_that_is_cut_off_is_no_end(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.do_handshake()
    client.guest.feed(b"")
    with pytest.raises(PeerError) as cut:
        client.guest.read()
    assert cut.value.reason == "net.closed"


def test_end_is_said_to_the_client(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.do_handshake()
    client.guest.close()
    assert client.receive() == b""


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        pytest.param(None, "net.tls", id="none"),
        pytest.param(
            STRANGER.issue((), usage=ExtendedKeyUsageOID.CLIENT_AUTH, uris=(ROLE,)),
            "net.certificate",
            id="stranger",
        ),
        pytest.param(
            OURS.issue((), usage=ExtendedKeyUsageOID.CLIENT_AUTH, uris=(ROLE,)),
            "net.certificate",
            id="the-guests-own-authority",
        ),
        pytest.param(OWNER.issue((), uris=(ROLE,)), "net.certificate_purpose", id="a-servers"),
        pytest.param(
            OWNER.issue(
                (), usage=ExtendedKeyUsageOID.CLIENT_AUTH, age=3 * DAY, life=2 * DAY, uris=(ROLE,)
            ),
            "net.certificate_time",
            id="expired",
        ),
        pytest.param(
            OWNER.issue((), usage=ExtendedKeyUsageOID.CLIENT_AUTH, age=dt.timedelta(-1)),
            "net.certificate_early",
            id="not-yet",
        ),
    ],
)
def test_client_that_the_owner_does_not_vouch_for_is_refused(
    tmp_path: Path, identity: Identity | None, reason: str
) -> None:
    assert refusal(Client(tmp_path, identity)) == reason
    Client(tmp_path).do_handshake()


@pytest.mark.parametrize(
    ("age", "reason"), [(3 * DAY, "net.identity_expired"), (-DAY, "net.tls"), (DAY, "")]
)
def test_client_that_finds_our_identity_expired_says_so(
    tmp_path: Path, age: dt.timedelta, reason: str
) -> None:
    client = Client(tmp_path)
    ours = pem(OURS.issue(("shop",), age=age, life=2 * DAY))
    client.guest = ServerConnection(server_context(Secret(ours), OWNER.pem))
    if not reason:
        client.do_handshake()
        return
    with pytest.raises(ssl.SSLCertVerificationError):
        client.do_handshake()
    client.send()  # the alert
    with pytest.raises(PeerError) as told:
        client.guest.do_handshake()
    assert told.value.reason == reason


def test_older_tls_is_refused(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert refusal(client) == "net.tls"


def test_what_is_no_tls_is_refused(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.guest.feed(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(PeerError) as refused:
        client.guest.do_handshake()
    assert refused.value.reason == "net.tls"


@pytest.mark.parametrize(
    "identity",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not PEM", id="text"),
        pytest.param(GUEST[1].public_bytes(Encoding.PEM), id="no-key"),
        pytest.param(pem((ADMIN[0], GUEST[1])), id="key-of-another"),
    ],
)
def test_identity_that_is_not_usable_is_refused(identity: bytes) -> None:
    before = count_descriptors()
    with pytest.raises(CcinitError) as refused:
        server_context(Secret(identity), OWNER.pem)
    assert refused.value.reason == "net.identity"
    server_context(Secret(pem(GUEST)), OWNER.pem)
    assert count_descriptors() == before


def test_key_stays_in_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[bytes] = []
    close = os.close

    def look_and_close(fd: int) -> None:
        left.append(os.pread(fd, 1 << 16, 0))
        close(fd)

    monkeypatch.setattr(os, "close", look_and_close)
    server_context(Secret(pem(GUEST)), OWNER.pem)
    assert left == [bytes(len(pem(GUEST)))]


def test_roots_that_are_none_are_refused() -> None:
    with pytest.raises(CcinitError) as refused:
        server_context(Secret(pem(GUEST)), "no certificate")
    assert refused.value.reason == "net.roots"
