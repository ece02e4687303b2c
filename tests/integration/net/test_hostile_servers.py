"""The guest's HTTP client against servers that break every rule, over real TLS on loopback."""

import datetime as dt
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import CcinitError, ConfigError, LimitExceededError, PeerError
from ccinit.net.http import HttpClient, HttpLimits, HttpReply
from ccinit.net.tls import pinned_context
from tests.fakes.network.tls_server import (
    DAY,
    Authority,
    Handler,
    Key,
    TlsServer,
    answer,
    keep_silent,
    make_authority,
    read_head,
    server_context,
    weak_key,
)
from tests.integration.free_ports import free_port

PATIENT = HttpLimits(wait_seconds=20.0, total_seconds=30.0, max_body_bytes=100_000)
OK = b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


def fetch(
    server: TlsServer,
    authority: Authority,
    *,
    host: str = "localhost",
    check_time: bool = True,
    limits: HttpLimits = PATIENT,
) -> HttpReply:
    with HttpClient(pinned_context(authority.pem, check_time=check_time)) as client:
        return client.request("GET", server.url(host=host), limits=limits)


def refused_reason(action: Callable[[], object]) -> str:
    with pytest.raises(CcinitError) as refused:
        action()
    assert isinstance(refused.value, (PeerError, LimitExceededError))
    return refused.value.reason


def test_good_server_is_read_with_its_date(authority: Authority) -> None:
    with TlsServer(server_context(authority.issue()), answer(OK)) as server:
        reply = fetch(server, authority)
    assert (reply.status, reply.body, reply.date) == (200, b"hello", 784_111_777)


@pytest.mark.parametrize("status", [200, 599])
def test_reply_of_any_status_that_http_has_is_read(authority: Authority, status: int) -> None:
    reply = b"HTTP/1.1 %d OK\r\nContent-Length: 0\r\n\r\n" % status
    with TlsServer(server_context(authority.issue()), answer(reply)) as server:
        assert fetch(server, authority).status == status


def test_address_in_the_certificate_is_a_name(authority: Authority) -> None:
    with TlsServer(server_context(authority.issue(("127.0.0.1",))), answer(OK)) as server:
        assert fetch(server, authority, host="127.0.0.1").body == b"hello"
    for names in (("127.0.0.2",), ("localhost",)):
        with TlsServer(server_context(authority.issue(names)), answer(OK)) as server:
            action = lambda: fetch(server, authority, host="127.0.0.1")  # noqa: E731
            assert refused_reason(action) == "net.certificate_name"


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        pytest.param(
            lambda own, _other: own.issue(("elsewhere.example",)),
            "net.certificate_name",
            id="wrong name",
        ),
        pytest.param(
            lambda own, _other: own.issue((), subject="localhost"),
            "net.certificate_name",
            id="only a common name",
        ),
        pytest.param(lambda _own, other: other.issue(), "net.certificate", id="other root"),
        pytest.param(
            lambda own, _other: own.issue(usage=ExtendedKeyUsageOID.CLIENT_AUTH),
            "net.certificate_purpose",
            id="client certificate",
        ),
        pytest.param(
            lambda own, _other: own.issue(key=weak_key()), "net.weak_key", id="rsa of 1024 bits"
        ),
        pytest.param(
            lambda own, _other: own.issue(age=60 * DAY), "net.certificate_time", id="expired"
        ),
        pytest.param(
            lambda own, _other: own.issue(age=-DAY), "net.certificate_early", id="not yet valid"
        ),
    ],
)
def test_r21_certificate_that_does_not_fit_is_refused_before_any_request(
    authority: Authority,
    identity: Callable[[Authority, Authority], tuple[Key, x509.Certificate]],
    reason: str,
) -> None:
    requests: list[bytes] = []
    context = server_context(identity(authority, make_authority()))
    with TlsServer(context, lambda connection: requests.append(read_head(connection))) as server:
        assert refused_reason(lambda: fetch(server, authority)) == reason
    assert not requests


@pytest.mark.parametrize("age", [60 * DAY, -DAY], ids=["expired", "not yet valid"])
def test_r16_dates_and_nothing_else_are_left_out_without_a_clock(
    authority: Authority, age: dt.timedelta
) -> None:
    with TlsServer(server_context(authority.issue(age=age)), answer(OK)) as server:
        assert fetch(server, authority, check_time=False).body == b"hello"
    for identity, reason in (
        (authority.issue(("elsewhere.example",), age=age), "net.certificate_name"),
        (make_authority().issue(age=age), "net.certificate"),
        (authority.issue(age=age, key=weak_key()), "net.weak_key"),
    ):
        with TlsServer(server_context(identity), answer(OK)) as server:
            action = lambda: fetch(server, authority, check_time=False)  # noqa: E731
            assert refused_reason(action) == reason


def test_r21_weak_root_is_refused() -> None:
    authority = make_authority(weak_key())
    with TlsServer(server_context(authority.issue()), answer(OK)) as server:
        assert refused_reason(lambda: fetch(server, authority)) == "net.weak_key"


def test_r23_tls_1_2_is_refused(authority: Authority) -> None:
    context = server_context(authority.issue())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with TlsServer(context, answer(OK)) as server:
        assert refused_reason(lambda: fetch(server, authority)) == "net.tls"
    assert server.handshakes == 0


def test_r22_plain_http_behind_an_https_url_is_refused(authority: Authority) -> None:
    with TlsServer(None, lambda connection: connection.sendall(OK)) as server:
        assert refused_reason(lambda: fetch(server, authority)) == "net.tls"


@pytest.mark.parametrize(
    "url", ["http://localhost/", "ftp://localhost/", "https:///", "https://user@localhost/", "//"]
)
def test_r22_url_that_is_not_plain_https_is_refused(authority: Authority, url: str) -> None:
    with HttpClient(pinned_context(authority.pem, check_time=True)) as client:
        assert refused_reason(lambda: client.request("GET", url)) == "net.url"


def test_r22_redirect_is_returned_and_not_followed(authority: Authority) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: http://localhost:1/\r\nContent-Length: 0\r\n\r\n"
    with TlsServer(server_context(authority.issue()), answer(head)) as server:
        reply = fetch(server, authority)
    assert (reply.status, reply.header("location")) == (302, "http://localhost:1/")
    assert server.connections == 1


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        pytest.param(
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",),
            "net.body",
            id="announced too long",
        ),
        pytest.param(
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                *((b"8000\r\n" + bytes(0x8000) + b"\r\n",) * 8),
            ),
            "net.body",
            id="chunked too long",
        ),
        pytest.param(
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",),
            "net.headers",
            id="one large header",
        ),
        pytest.param(
            (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000_000 + b"\r\n",),
            "net.protocol",
            id="a million headers",
        ),
        pytest.param((b"HTTP/1.1 200 OK\r\n\r\nhello",), "net.unframed", id="no length"),
        pytest.param(
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"5\r\nhello\r\n0\r\n\r\n",
            ),
            "net.unframed",
            id="two ends",
        ),
        pytest.param(
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",), "net.truncated", id="truncated"
        ),
        pytest.param(
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",),
            "net.truncated",
            id="no last chunk",
        ),
        pytest.param((b"HTTP/1.1 200 OK\r\nConte",), "net.truncated", id="truncated head"),
        pytest.param((), "net.closed", id="no answer"),
        pytest.param((b"SSH-2.0-OpenSSH\r\n\r\n",), "net.protocol", id="not http"),
        pytest.param(
            (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",),
            "net.encoding",
            id="coding not asked for",
        ),
        pytest.param(
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",), "net.protocol", id="bad length"
        ),
        *(
            pytest.param(
                (b"HTTP/1.1 %d OK\r\nContent-Length: 0\r\n\r\n" % status,),
                "net.protocol",
                id=f"status {status}",
            )
            for status in (101, 600, 999)
        ),
    ],
)
def test_r31_reply_that_breaks_a_rule_is_refused(
    authority: Authority, parts: tuple[bytes, ...], reason: str
) -> None:
    with TlsServer(server_context(authority.issue()), answer(*parts)) as server:
        assert refused_reason(lambda: fetch(server, authority)) == reason


@pytest.mark.parametrize(
    ("more", "connections"),
    [
        pytest.param(b"", 1, id="nothing"),
        pytest.param(OK.replace(b"hello", b"other"), 2, id="a reply"),
        pytest.param(b"HTTP/1.1 404 No\r\nX-Hidden: ", 2, id="a part of a head"),
        pytest.param(b"\r\n", 2, id="an empty line"),
    ],
)
def test_r31_nothing_behind_a_reply_answers_the_next_request(
    authority: Authority, more: bytes, connections: int
) -> None:
    """Where a proxy is led astray, it is a stranger's; what comes on a new connection counts."""

    def serve(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(OK + more)
        read_head(connection)
        connection.sendall(OK)
        keep_silent(connection)

    context = pinned_context(authority.pem, check_time=True)
    with TlsServer(server_context(authority.issue()), serve) as server:
        with HttpClient(context) as client:
            replies = [client.request("GET", server.url(), limits=PATIENT) for _ in range(2)]
        assert [(reply.status, reply.body) for reply in replies] == [(200, b"hello")] * 2
        assert server.connections == connections


def test_r23_end_without_close_notify_is_a_truncation(authority: Authority) -> None:
    def cut(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        socket.socket(fileno=connection.detach()).close()  # the TCP end, without TLS's own

    with TlsServer(server_context(authority.issue()), cut) as server:
        assert refused_reason(lambda: fetch(server, authority)) == "net.truncated"


def drip(prefix: bytes) -> Handler:
    """Send `prefix`, then a byte at a time, for longer than anyone should wait."""

    def handle(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(prefix)
        for _ in range(900):
            connection.sendall(b"1")
            time.sleep(0.1)

    return handle


@pytest.mark.parametrize(
    "prefix",
    [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"],
    ids=["in the head", "in the body"],
)
def test_r31_byte_at_a_time_ends_at_the_total_deadline(authority: Authority, prefix: bytes) -> None:
    limits = HttpLimits(wait_seconds=30.0, total_seconds=3.0)
    with TlsServer(server_context(authority.issue()), drip(prefix)) as server:
        start = time.monotonic()
        assert refused_reason(lambda: fetch(server, authority, limits=limits)) == "net.deadline"
        assert 2.9 < time.monotonic() - start < 45  # it would go on for 90


@pytest.mark.parametrize("tls", [True, False], ids=["after the handshake", "in the handshake"])
def test_r31_silence_ends_at_the_wait_limit(authority: Authority, *, tls: bool) -> None:
    limits = HttpLimits(wait_seconds=0.3, total_seconds=30.0)
    context = server_context(authority.issue()) if tls else None
    with TlsServer(context, keep_silent) as server:
        # at the end of the total it would be "net.deadline"
        assert refused_reason(lambda: fetch(server, authority, limits=limits)) == "net.timeout"


def test_r23_one_byte_writes_are_read_as_one_reply(authority: Authority) -> None:
    pieces = tuple(bytes((byte,)) for byte in OK)
    with TlsServer(server_context(authority.issue()), answer(*pieces)) as server:
        assert fetch(server, authority).body == b"hello"


def test_r20_closed_port_and_unknown_name_are_told_apart(authority: Authority) -> None:
    with HttpClient(pinned_context(authority.pem, check_time=True)) as client:
        closed = f"https://127.0.0.1:{free_port()}/"
        assert refused_reason(lambda: client.request("GET", closed)) == "net.unreachable"
        unknown = "https://name.invalid/"  # where no resolver is, nobody knows that it is unknown
        told = refused_reason(lambda: client.request("GET", unknown))
        assert told in {"net.dns", "net.resolver"}


def test_environment_proxies_and_roots_have_no_effect(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = make_authority()
    roots = tmp_path / "roots.pem"
    roots.write_text(other.pem)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    with TlsServer(server_context(authority.issue()), answer(OK)) as server:
        assert fetch(server, authority).body == b"hello"
    with TlsServer(server_context(other.issue()), answer(OK)) as server:
        assert refused_reason(lambda: fetch(server, authority)) == "net.certificate"


def test_r95_connection_is_kept_and_an_ended_one_is_replaced(authority: Authority) -> None:
    ended = threading.Event()

    def twice(connection: socket.socket) -> None:
        for _ in range(2):
            read_head(connection)
            connection.sendall(OK)
        connection.close()
        ended.set()

    with (
        TlsServer(server_context(authority.issue()), twice) as server,
        HttpClient(pinned_context(authority.pem, check_time=True)) as client,
    ):
        for connections in (1, 2):
            for _ in range(2):
                assert client.request("GET", server.url(), limits=PATIENT).body == b"hello"
                assert server.connections == connections
            assert ended.wait(20)
            ended.clear()


def test_roots_that_are_no_certificates_are_refused() -> None:
    for text in ("", "not pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(ConfigError) as refused:
            pinned_context(text, check_time=True)
        assert refused.value.reason == "net.roots"


def test_client_needs_no_list_of_public_roots(authority: Authority, tmp_path: Path) -> None:
    """httpcore imports certifi; the image has the module and not its list of roots."""
    (tmp_path / "certifi.py").write_text(
        "def where():\n    raise RuntimeError('no public roots')\n"
    )
    (tmp_path / "root.pem").write_text(authority.pem)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ccinit.net.http import HttpClient\n"
        "from ccinit.net.tls import pinned_context\n"
        "context = pinned_context(open(sys.argv[2]).read(), check_time=True)\n"
        "with HttpClient(context) as client:\n"
        "    print(client.request('GET', sys.argv[3]).body)\n"
    )
    with TlsServer(server_context(authority.issue()), answer(OK)) as server:
        done = subprocess.run(
            (
                sys.executable,
                "-c",
                program,
                str(tmp_path),
                str(tmp_path / "root.pem"),
                server.url(),
            ),
            capture_output=True,
            check=True,
            text=True,
        )
    assert done.stdout == "b'hello'\n"
