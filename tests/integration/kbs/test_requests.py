"""Requests that no guest makes: other paths, odd names, hostile bodies and connections."""

import http.client
import json
import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from guest_owner.kbs.http.server import open_listener
from tests.integration.kbs.harness import LIMITS, SECRET, Kbs, refused, running_kbs, variant

HASTY = replace(LIMITS, body_seconds=2.0, head_seconds=2.5)


@pytest.fixture(scope="module")
def kbs(registered_state: Path) -> Iterator[Kbs]:
    """One for all: what is no request must leave nothing behind."""
    with running_kbs(registered_state) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/", 404, "InvalidRequestPath"),
        ("GET", "/kbs/v0", 404, "InvalidRequestPath"),
        ("GET", "/kbs/v0/", 404, "InvalidRequestPath"),
        ("GET", "/kbs/v1/resource/a/b/c", 404, "InvalidRequestPath"),
        ("GET", "/kbs/v0/pkcs11/a", 404, "PluginNotFound"),
        ("GET", "/kbs/v0/auth", 404, "PluginNotFound"),
        ("POST", "/kbs/v0/resource/a/b/c", 401, "AdminAuthAccess"),
        ("DELETE", "/kbs/v0/resource/a/b/c", 401, "AdminAuthAccess"),
        ("POST", "/kbs/v0/resource-policy", 401, "AdminAuthAccess"),
        ("POST", "/kbs/v0/attestation-policy", 401, "AdminAuthAccess"),
        ("GET", "/kbs/v0/resource/a/b/c", 401, "TokenNotFound"),
    ],
)
def test_other_paths_are_answered_as_trustee_answers(
    kbs: Kbs, method: str, path: str, status: int, error: str
) -> None:
    reply = kbs.client().http.request(method, path)
    assert (reply.status_code, variant(reply)) == (status, error)


@pytest.mark.parametrize(
    "path",
    [
        "ccinit/shop",
        "ccinit/shop/file-password/x",
        "ccinit/shop/..%2Fbank",
        "ccinit/shop/%2e%2e",
        "ccinit//file-password",
        "ccinit/shop/.hidden",
    ],
)
def test_odd_resource_paths_are_refused(kbs: Kbs, path: str) -> None:
    client = kbs.client()
    client.handshake()
    refused(client.get(path), "PluginInternalError")
    assert client.open(client.get()) == SECRET


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("auth", b""),
        ("auth", b"[]"),
        ("auth", b'{"version":"0.4.0","tee":"tpm"}'),
        ("auth", b'{"version":"0.4.0","tee":"tpm","extra-params":"","x":1}'),
        ("auth", b"[" * 60_000),
        ("attest", b"{}"),
        ("attest", b"\xff"),
    ],
)
def test_malformed_bodies_are_refused(kbs: Kbs, path: str, body: bytes) -> None:
    client = kbs.client()
    client.auth()
    refused(client.http.post(f"/kbs/v0/{path}", content=body))


@pytest.mark.parametrize(
    ("path", "cap"), [("auth", LIMITS.request_bytes), ("attest", LIMITS.attestation_bytes)]
)
def test_oversize_body_is_cut_off(kbs: Kbs, path: str, cap: int) -> None:
    client = kbs.client()
    reply = client.http.post(f"/kbs/v0/{path}", content=b" " * cap)
    assert "body" not in reply.json()["detail"]
    # Trustee's HTTP layer says 413 too; chunks without a declared length are counted as they come.
    chunk = b" " * 65536
    reply = client.http.post(
        f"/kbs/v0/{path}", content=(chunk for _ in range(cap // len(chunk) + 1))
    )
    assert (reply.status_code, variant(reply)) == (413, "AttestationError")
    assert kbs.client().auth().status_code == 200


def tls_connection(kbs: Kbs) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", kbs.port), 60)
    return kbs.tls.wrap_socket(raw, server_hostname="localhost")


def refusal_of(connection: ssl.SSLSocket) -> str:
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    return f"{reply.status}: {json.loads(reply.read())['detail']}"


@pytest.fixture(scope="module")
def hasty(registered_state: Path) -> Iterator[Kbs]:
    """A KBS that waits for hardly anybody."""
    with running_kbs(registered_state, HASTY) as server:
        yield server


def test_slow_body_is_cut_off(hasty: Kbs) -> None:
    head = b"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    with tls_connection(hasty) as connection:
        begin = time.monotonic()
        connection.sendall(head + b"{")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert HASTY.body_seconds - 0.5 < time.monotonic() - begin < LIMITS.body_seconds
    assert hasty.client().auth().status_code == 200


def test_largest_body_is_given_up_where_all_together_are_too_many(registered_state: Path) -> None:
    size = LIMITS.attestation_bytes
    limits = replace(LIMITS, bodies_bytes=2 * size, body_seconds=60.0)
    head = f"POST /kbs/v0/attest HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    with running_kbs(registered_state, limits) as kbs, ExitStack() as stack:
        alone = stack.enter_context(tls_connection(kbs))
        alone.sendall(head + b" " * size)
        assert "no such session" in refusal_of(alone)
        large = [stack.enter_context(tls_connection(kbs)) for _ in range(3)]
        for connection in large:
            connection.sendall(head + b" " * (size - 1))
        client = kbs.client()
        assert client.handshake().status_code == 200
        assert client.open(client.get()) == SECRET
        # Which of the three it was is nobody's matter; no other deadline is near.
        readable, _, _ = select.select(large, (), (), 50)
        assert refusal_of(readable[0]) == "408: body too slow"
        assert len(readable) < len(large)


def test_slow_head_is_cut_off(hasty: Kbs) -> None:
    begin = time.monotonic()
    with tls_connection(hasty) as connection:
        connection.sendall(b"POST /")
        connection.settimeout(0.01)
        while not is_cut_off(connection):
            with suppress(OSError):  # it may be cut off by now
                connection.sendall(b"k")
    assert HASTY.head_seconds - 0.5 < time.monotonic() - begin < LIMITS.head_seconds
    assert hasty.client().auth().status_code == 200


def is_cut_off(connection: ssl.SSLSocket) -> bool:
    try:
        return connection.recv(4096) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_peer_that_only_connects_is_let_go(hasty: Kbs) -> None:
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", hasty.port), 60) as silent:
        assert silent.recv(1) == b""
    assert HASTY.head_seconds - 0.5 < time.monotonic() - begin < LIMITS.head_seconds
    assert hasty.client().auth().status_code == 200


def test_tls_below_1_3_is_refused(kbs: Kbs) -> None:
    context = kbs.tls
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", kbs.port), 10) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(raw, server_hostname="localhost")
    with tls_connection(kbs) as connection:
        assert connection.version() == "TLSv1.3"


def test_certificate_names_only_what_the_owner_said(kbs: Kbs) -> None:
    with (
        socket.create_connection(("127.0.0.1", kbs.port), 10) as raw,
        pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
    ):
        kbs.tls.wrap_socket(raw, server_hostname="kbs.example")


def test_listener_sends_replies_without_delay() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
