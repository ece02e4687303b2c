"""A hostile KBS, or a hostile network before it, against the guest's whole client over real TLS.

One server with one thing wrong in each case. The same guest gets its secret from the same server
untampered: every case begins with that, through the same lines. Names carry the rows of the table
of bad inputs.
"""

import datetime as dt
import gc
import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import CcinitError
from ccinit.formats.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.resource_uri import parse_resource_uri
from ccinit.net.http import HttpReply
from tests.fakes.kbs_http import FakeKbs, Fault, answer, recipient, refuse, reply
from tests.fakes.kbs_tls import Guest, KbsServer
from tests.fakes.tls_server import (
    DAY,
    TlsServer,
    make_authority,
    read_head,
    server_context,
    weak_key,
)
from tests.vectors.jwe.make_vectors import Json, Recipient, seal, seal_key

URI = parse_resource_uri("kbs:///ccinit/pod/file-a")
OTHER = parse_resource_uri("kbs:///ccinit/pod/file-b")
SECRET = b"the owner's secret"
NONCE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

Tamper = Callable[[FakeKbs], None]


def body(uri: str = str(URI), kind: EnvelopeKind = EnvelopeKind.FILE) -> bytes:
    return encode_envelope(Envelope(uri=parse_resource_uri(uri), kind=kind, data=SECRET))


@pytest.fixture
def server() -> Iterator[KbsServer]:
    with KbsServer(kbs=FakeKbs(resources={URI.path: body(), OTHER.path: body(str(OTHER))})) as kbs:
        yield kbs


def fetch(server: KbsServer, *, url: str = "", roots: str = "") -> bytes:
    with Guest(server, url=url, roots=roots) as client:
        return client.get_envelope(URI, EnvelopeKind.FILE).envelope.data


def refused_reason(server: KbsServer, tamper: Tamper) -> str:
    """Why a guest of the tampered server gets nothing, where one of the untampered does."""
    assert fetch(server) == SECRET
    tamper(server.kbs)
    with pytest.raises(CcinitError) as refused:
        fetch(server)
    assert SECRET.decode() not in str(refused.value)
    return refused.value.reason


def at(place: int, fault: Fault) -> Tamper:
    """The fault at `auth` (0), `attest` (1) or the resource (2)."""
    return lambda kbs: kbs.faults.extend((*[None] * place, fault))


PLACES = pytest.mark.parametrize("place", [0, 1, 2], ids=["auth", "attest", "resource"])


def reset(connection: socket.socket) -> None:
    """End a connection by RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# A reset that arrives just before the handshake makes `ssl.SSLSocket` leave its socket to the
# garbage collector. In the guest that is the end of the child.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_r20_reset_connections_are_retried_until_the_deadline(server: KbsServer) -> None:
    assert fetch(server) == SECRET
    with TlsServer(None, reset) as hostile:
        start = time.monotonic()
        with pytest.raises(CcinitError) as refused:
            fetch(server, url=hostile.url(path=""))
        assert refused.value.reason == "kbs.unreachable"
        assert 1.0 < time.monotonic() - start < 4.0
        assert hostile.connections > 3
    gc.collect()


@pytest.mark.parametrize("name", ["closed port", "no such name", "silence"])
def test_r20_unreachable_kbs_is_given_up_at_the_deadline(server: KbsServer, name: str) -> None:
    assert fetch(server) == SECRET
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with TlsServer(None, lambda _connection: time.sleep(5)) as silent:
        url = {
            "silence": silent.url(path=""),
            "no such name": "https://name.invalid",
            "closed port": f"https://127.0.0.1:{port}",
        }[name]
        start = time.monotonic()
        with pytest.raises(CcinitError) as refused:
            fetch(server, url=url)
    assert refused.value.reason == "kbs.unreachable"
    assert time.monotonic() - start < 4.0


@pytest.mark.parametrize("case", ["root", "name", "weak key", "purpose"])
def test_r21_kbs_that_is_not_the_pinned_one_is_told_nothing(server: KbsServer, case: str) -> None:
    assert fetch(server) == SECRET
    own = server.authority
    identity, reason = {
        "root": (make_authority().issue(), "net.certificate"),
        "name": (own.issue(("elsewhere.example",)), "net.certificate_name"),
        "weak key": (own.issue(key=weak_key()), "net.weak_key"),
        "purpose": (own.issue(usage=ExtendedKeyUsageOID.CLIENT_AUTH), "net.certificate_purpose"),
    }[case]
    hostile = KbsServer(kbs=server.kbs, authority=own, context=server_context(identity))
    with hostile, pytest.raises(CcinitError) as refused:
        fetch(hostile)
    assert refused.value.reason == reason
    assert not hostile.requests


@PLACES
@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/", "https://127.0.0.1:{port}/"])
def test_r22_redirect_is_not_followed(server: KbsServer, place: int, target: str) -> None:
    with TlsServer(None, lambda _connection: None) as elsewhere:
        location = target.format(port=elsewhere.port)
        fault = answer(reply(307, b"", ("location", location)))
        assert refused_reason(server, at(place, fault)) == "kbs.redirect"
        time.sleep(0.1)
        assert elsewhere.connections == 0


def test_r22_kbs_without_tls_is_told_nothing(server: KbsServer) -> None:
    heads: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heads.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    assert fetch(server) == SECRET
    with TlsServer(None, listen) as plain:
        with pytest.raises(CcinitError) as refused:
            fetch(server, url=plain.url(path=""))
        assert refused.value.reason == "net.tls"
        with pytest.raises(CcinitError) as refused:
            fetch(server, url=f"http://localhost:{plain.port}")
        assert refused.value.reason == "net.url"
    assert [head[:1] for head in heads] == [b"\x16"]  # a TLS record, never a request


def test_r23_older_tls_is_refused(server: KbsServer) -> None:
    context = server_context(server.authority.issue())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert fetch(server) == SECRET
    older = KbsServer(kbs=server.kbs, authority=server.authority, context=context)
    with older, pytest.raises(CcinitError) as refused:
        fetch(older)
    assert refused.value.reason == "net.tls"
    assert not older.requests


def test_r23_reply_cut_off_is_no_reply(server: KbsServer) -> None:
    def cut(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{")
        with socket.socket(fileno=connection.detach()) as plain:
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(65536):  # a close with unread bytes would take back what was sent
                pass

    assert fetch(server) == SECRET
    with TlsServer(server_context(server.authority.issue()), cut) as hostile:
        with pytest.raises(CcinitError) as refused:
            fetch(server, url=hostile.url(path=""))
        assert refused.value.reason == "net.truncated"
        assert hostile.connections == 1


@pytest.mark.parametrize(
    ("nonce", "reason"),
    [
        pytest.param("", "rcar.nonce", id="empty"),
        pytest.param("A" * (1 << 20), "net.body", id="1 MiB"),
        pytest.param("A" * 60_000, "rcar.nonce", id="60 000 bytes"),
        pytest.param("AAAAAAAAAAAAAAAAAAAA", "rcar.nonce", id="15 bytes"),
        pytest.param("not base64, not at all!!", "rcar.nonce", id="not base64"),
    ],
)
def test_r24_nonce_outside_the_rule_is_refused(server: KbsServer, nonce: str, reason: str) -> None:
    assert refused_reason(server, lambda kbs: kbs.nonces.append(nonce)) == reason
    assert server.kbs.paths[-1] == "auth"


def test_r24_nonce_of_an_earlier_handshake_is_refused(server: KbsServer) -> None:
    with Guest(server) as client:
        server.kbs.nonces = [NONCE]
        client.attest()
        client.attest()
        server.kbs.nonces = [NONCE]
        with pytest.raises(CcinitError) as refused:
            client.attest()
    assert refused.value.reason == "kbs.nonce_repeated"


@pytest.mark.parametrize("selected", ["sha256", "sha512", "sm3", "md5", "", None, 384])
def test_r25_hash_that_is_not_the_pinned_one_is_refused(
    server: KbsServer, selected: object
) -> None:
    server.kbs.extra_params = {"selected-hash-algorithm": "sha384"}

    def tamper(kbs: FakeKbs) -> None:
        kbs.extra_params = {"selected-hash-algorithm": selected}

    assert refused_reason(server, tamper) == "rcar.hash"
    assert server.kbs.paths[-1] == "auth"


def resealed(change: Json) -> Tamper:
    """Encrypt as before, under a header with something else in it."""

    def tamper(kbs: FakeKbs) -> None:
        def hostile_seal(plaintext: bytes, key: Recipient) -> object:
            header, _encrypted_key = seal_key(key)
            return seal(plaintext, key, header={**header, **change})

        kbs.seal = hostile_seal

    return tamper


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"alg": "RSA1_5"}, "jwe.alg", id="RSA1_5"),
        pytest.param({"alg": "RSA-OAEP-256"}, "jwe.alg", id="RSA-OAEP-256"),
        pytest.param({"alg": "dir"}, "jwe.alg", id="dir"),
        pytest.param({"alg": "none"}, "jwe.alg", id="none"),
        pytest.param({"enc": "A128GCM"}, "jwe.enc", id="A128GCM"),
        pytest.param({"enc": "A256CBC-HS512"}, "jwe.enc", id="A256CBC-HS512"),
        pytest.param({"zip": "DEF"}, "jwe.header.members", id="zip"),
        pytest.param({"crit": ["exp"]}, "jwe.header.members", id="crit"),
        pytest.param({"jku": "https://host/keys"}, "jwe.header.members", id="jku"),
    ],
)
def test_r26_other_algorithm_is_refused(server: KbsServer, change: Json, reason: str) -> None:
    assert refused_reason(server, resealed(change)) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"crv": "P-521"}, "jwk.crv", id="wrong curve"),
        pytest.param({"x": "A" * 43, "y": "A" * 43}, "jwk.point", id="at infinity"),
        pytest.param({"y": "A" * 42 + "E"}, "jwk.point", id="off the curve"),
        pytest.param({"x": "A" * 44}, "jwk.coordinate", id="x too long"),
        pytest.param({"y": "A" * 44}, "jwk.coordinate", id="y too long"),
    ],
)
def test_r27_other_ephemeral_key_is_refused(server: KbsServer, change: Json, reason: str) -> None:
    def tamper(kbs: FakeKbs) -> None:
        def hostile_seal(plaintext: bytes, key: Recipient) -> object:
            header, _encrypted_key = seal_key(key)
            epk = header["epk"]
            assert isinstance(epk, dict)
            return seal(plaintext, key, header={**header, "epk": {**epk, **change}})

        kbs.seal = hostile_seal

    assert refused_reason(server, tamper) == reason


@pytest.mark.parametrize("part", ["protected", "encrypted_key", "iv", "ciphertext", "tag"])
def test_r28_changed_or_short_part_is_refused(server: KbsServer, part: str) -> None:
    def changed(text: str) -> Tamper:
        def tamper(kbs: FakeKbs) -> None:
            kbs.seal = lambda plaintext, key: {**seal(plaintext, key), part: text}

        return tamper

    # Two bytes and none: neither is what any of the parts can be.
    for text in ("AAA", ""):
        server.kbs.seal = seal
        reason = refused_reason(server, changed(text))
        assert reason == ("jwe.header.json" if part == "protected" else "jwe.decrypt")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        pytest.param(body(str(OTHER)), "envelope.uri", id="another resource"),
        pytest.param(body(kind=EnvelopeKind.LOG_PSK), "envelope.kind", id="another use"),
        pytest.param(SECRET, "envelope.json", id="no envelope"),
    ],
)
def test_r29_valid_reply_for_another_request_is_refused(
    server: KbsServer, other: bytes, reason: str
) -> None:
    def tamper(kbs: FakeKbs) -> None:
        kbs.resources[URI.path] = other

    assert refused_reason(server, tamper) == reason


class TestManInTheMiddle:
    """A host that stands between: it has the guest's packets, and a TLS identity of its own."""

    def test_r30_host_never_learns_the_key_that_it_would_encrypt_to(
        self, server: KbsServer
    ) -> None:
        assert fetch(server) == SECRET
        stand_in = FakeKbs(resources={URI.path: body()})
        for identity in (make_authority().issue(), make_authority().issue(("localhost",))):
            middle = KbsServer(kbs=stand_in, context=server_context(identity))
            with middle, pytest.raises(CcinitError) as refused:
                fetch(middle, roots=server.authority.pem)
            assert refused.value.reason == "net.certificate"
            assert not middle.requests
        assert not stand_in.keys

    def test_r30_key_of_an_earlier_session_is_of_no_use(self, server: KbsServer) -> None:
        """A reply that was made for this guest, in the session before."""
        with Guest(server) as client:
            client.attest()
            [key] = server.kbs.keys
            client.attest()
            assert server.kbs.keys[-1] != key
            old = json.dumps(seal(body(), recipient(key))).encode()
            server.kbs.faults = [answer(reply(200, old))]
            with pytest.raises(CcinitError) as refused:
                client.get_envelope(URI, EnvelopeKind.FILE)
            assert refused.value.reason == "jwe.decrypt"
            assert client.get_envelope(URI, EnvelopeKind.FILE).envelope.data == SECRET


@PLACES
def test_r31_body_beyond_the_cap_is_not_read(server: KbsServer, place: int) -> None:
    fault = answer(reply(200, b" " * (2 << 20)))
    assert refused_reason(server, at(place, fault)) == "net.body"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        pytest.param(b"Content-Length: 10737418240\r\n\r\n", "net.body", id="10 GiB"),
        pytest.param(b"X: y\r\n" * 200_000 + b"\r\n", "net.protocol", id="200 000 headers"),
        pytest.param(
            b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + bytes(65536) + b"\r\n",
            "kbs.unreachable",
            id="chunked forever",
        ),
    ],
)
def test_r31_endless_reply_is_ended(server: KbsServer, head: bytes, reason: str) -> None:
    def endless(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head)
        for _ in range(100):
            connection.sendall(b"1\r\n \r\n")
            time.sleep(0.05)

    assert fetch(server) == SECRET
    with TlsServer(server_context(server.authority.issue()), endless) as hostile:
        start = time.monotonic()
        with pytest.raises(CcinitError) as refused:
            fetch(server, url=hostile.url(path=""))
    assert refused.value.reason == reason
    assert time.monotonic() - start < 4.0


@PLACES
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(reply(401), "kbs.status", id="401"),
        pytest.param(reply(403), "kbs.forbidden", id="403"),
        pytest.param(reply(404), "kbs.status", id="404"),
        pytest.param(reply(418), "kbs.status", id="418"),
        pytest.param(refuse(401, "PolicyDeny"), "kbs.policy_deny", id="denied"),
    ],
)
def test_r32_refusal_is_final_and_asked_once(
    server: KbsServer, place: int, fault: HttpReply, reason: str
) -> None:
    assert refused_reason(server, at(place, answer(fault))) == reason
    assert len(server.requests) == 3 + place + 1  # the control's, and no second try


@pytest.mark.parametrize("status", [429, 500, 503])
def test_r32_busy_kbs_is_asked_again_and_its_wish_is_capped(server: KbsServer, status: int) -> None:
    assert fetch(server) == SECRET
    server.kbs.faults = [answer(reply(status, b"", ("retry-after", "1")))]
    assert fetch(server) == SECRET
    # A minute, which is the most that a KBS may ask for, is more than this guest has left.
    server.kbs.faults = [answer(reply(status, b"", ("retry-after", "999999999999")))]
    start = time.monotonic()
    with pytest.raises(CcinitError) as refused:
        fetch(server)
    assert refused.value.reason == "kbs.unreachable"
    assert time.monotonic() - start < 2.0


def test_r33_session_that_ends_amid_many_keys_is_renewed_with_a_new_key(
    server: KbsServer,
) -> None:
    uris = [parse_resource_uri(f"kbs:///ccinit/pod/file-{number}") for number in range(4)]
    server.kbs.resources |= {uri.path: body(str(uri)) for uri in uris}
    with Guest(server) as client:
        for uri in uris:
            if uri is uris[2]:
                server.kbs.end_sessions()
            assert client.get_envelope(uri, EnvelopeKind.FILE).envelope.data == SECRET
    assert server.kbs.released == [uri.path for uri in uris]
    assert len({json.dumps(key) for key in server.kbs.keys}) == 2


def test_r33_session_that_is_never_accepted_is_renewed_only_once(server: KbsServer) -> None:
    assert fetch(server) == SECRET
    lost = answer(refuse(401, "TokenNotFound"))
    server.kbs.faults = [None, None, lost, None, None, lost, None, None]
    with pytest.raises(CcinitError) as refused:
        fetch(server)
    assert refused.value.reason == "kbs.token_not_found"
    assert server.kbs.paths.count("auth") == 1 + 2


@pytest.mark.parametrize("age", [60 * DAY, -DAY], ids=["expired", "not yet valid"])
def test_r16_dates_do_not_count_without_a_clock(server: KbsServer, age: dt.timedelta) -> None:
    context = server_context(server.authority.issue(age=age))
    with KbsServer(kbs=server.kbs, authority=server.authority, context=context) as dated:
        assert fetch(dated) == SECRET
