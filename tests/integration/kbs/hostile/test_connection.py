"""A hostile network, or another server, in place of the KBS: with real TLS, or without.

Names carry the rows of the table of bad inputs.
"""

import datetime as dt
import json
import socket
import ssl
import struct
import time

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import CcinitError
from ccinit.formats.kbs.envelope import EnvelopeKind
from tests.fakes.kbs.http import FakeKbs, answer, recipient, reply
from tests.fakes.kbs.tls import QUICK, Guest, KbsServer
from tests.fakes.network.tls_server import (
    DAY,
    TlsServer,
    keep_silent,
    make_authority,
    read_head,
    server_context,
    weak_key,
)
from tests.integration.free_ports import free_port
from tests.integration.kbs.hostile.harness import (
    GIVEN_UP,
    PLACES,
    SECRET,
    URI,
    at,
    body,
    fetch,
    refused_reason,
)
from tests.vectors.jwe.make_vectors import seal


def reset(connection: socket.socket) -> None:
    """End a connection by RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# A reset that arrives just before the handshake makes `ssl.SSLSocket` leave its socket to the
# garbage collector in Python 3.11; that of the guest closes it.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_r20_reset_connections_are_retried_until_the_deadline(server: KbsServer) -> None:
    assert fetch(server) == SECRET
    with TlsServer(None, reset) as hostile:
        start = time.monotonic()
        with pytest.raises(CcinitError) as refused:
            fetch(server, url=hostile.url(path=""), limits=GIVEN_UP)
        assert refused.value.reason == "kbs.unreachable"
        assert 0.3 < time.monotonic() - start < QUICK.total_seconds
        assert hostile.connections > 1


@pytest.mark.parametrize("name", ["closed port", "no such name", "silence"])
def test_r20_unreachable_kbs_is_given_up_at_the_deadline(server: KbsServer, name: str) -> None:
    assert fetch(server) == SECRET
    with TlsServer(None, keep_silent) as silent:
        url = {
            "silence": silent.url(path=""),
            "no such name": "https://name.invalid",
            "closed port": f"https://127.0.0.1:{free_port()}",
        }[name]
        start = time.monotonic()
        with pytest.raises(CcinitError) as refused:
            fetch(server, url=url, limits=GIVEN_UP)
    assert refused.value.reason == "kbs.unreachable"
    assert time.monotonic() - start < QUICK.total_seconds


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


@pytest.mark.parametrize("age", [60 * DAY, -DAY], ids=["expired", "not yet valid"])
def test_r16_dates_do_not_count_without_a_clock(server: KbsServer, age: dt.timedelta) -> None:
    context = server_context(server.authority.issue(age=age))
    with KbsServer(kbs=server.kbs, authority=server.authority, context=context) as dated:
        assert fetch(dated) == SECRET


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
