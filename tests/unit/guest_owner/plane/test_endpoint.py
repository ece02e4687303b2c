"""What is wrong with the options of a connection is told before anybody is asked."""

import errno
import os
import socket
import ssl
import tracemalloc
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from guest_owner.plane import client as client_module
from guest_owner.plane.client import Endpoint
from guest_owner.plane.endpoint import CLIENT_VARIABLE, CONNECT_VARIABLE, POD_VARIABLE
from tests.unit.guest_owner.command_line import error_of, run


@pytest.fixture
def client(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A client's key and certificate."""
    path = tmp_path / "alice.pem"
    assert run("client-ca", "init", "--state", state) == 0
    command = ("client-cert", "new", "alice", "--role", "logs", "--output", path)
    assert run(*command, "--state", state) == 0
    capsys.readouterr()
    return path


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection."""

    def refuse(address: tuple[str, int], timeout: float) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    monkeypatch.setattr(socket, "create_connection", refuse)


def logs(state: Path, client: Path, *options: object) -> int:
    """Ask a guest where nobody answers."""
    where = ("--connect", "[::1]:1", "--pod", "shop", "--client", client)
    return run("logs", "--state", state, *where, *options)


def test_guest_that_does_not_answer_is_named(
    state: Path, client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert logs(state, client) == 1
    told = "guest-owner: [::1]:1: Connection refused [owner.unreachable]\n"
    assert error_of(capsys) == told


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_unusable_files_are_named_before_the_guest_is_asked(
    state: Path, client: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    other = tmp_path / "other.pem"
    if content is not None:
        other.write_bytes(content)
    assert logs(state, other) == 1
    told = error_of(capsys)
    assert f"{other}, your key and certificate" in told
    assert "None" not in told
    assert "[owner.identity]" in told
    assert logs(state, client, "--ca", other) == 1
    told = error_of(capsys)
    assert f"{other}, the authority that guests are known by" in told
    assert "[owner.roots]" in told


def test_key_of_another_certificate_is_told_in_words(
    state: Path, client: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.pem"
    for key in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        certificate = client.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
        other.write_bytes(pem + b"".join(certificate[1:]))
        assert logs(state, other) == 1
        told = "your key and certificate: the key does not belong to the certificate"
        assert error_of(capsys) == f"guest-owner: {other}, {told} [owner.identity]\n"


def test_key_is_read_once_for_a_connection(
    state: Path,
    client: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each reading of a key with a passphrase asks for the passphrase."""
    contexts = []
    make = client_module._context

    def count(endpoint: Endpoint) -> ssl.SSLContext:
        contexts.append(make(endpoint))
        return contexts[-1]

    near, far = socket.socketpair()
    far.close()
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: near)
    monkeypatch.setattr(client_module, "_context", count)
    assert logs(state, client) == 1
    assert "[owner.closed]" in error_of(capsys)
    assert len(contexts) == 1


def test_large_file_in_the_place_of_a_certificate_takes_no_memory(
    state: Path, client: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.pem"
    with other.open("wb") as file:
        file.truncate(64 << 20)
    assert logs(state, client) == 1
    assert "[owner.unreachable]" in error_of(capsys)
    tracemalloc.start()
    try:
        assert logs(state, other) == 1
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert f"{other}, your key and certificate" in error_of(capsys)


@pytest.mark.parametrize(("days", "reason"), [(89, "unreachable"), (91, "identity")])
def test_certificate_that_has_ended_is_told_before_the_guest_is_asked(
    state: Path,
    client: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    reason: str,
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Later":
            return super().now(tz) + timedelta(days=days)

    monkeypatch.setattr("guest_owner.plane.endpoint.datetime", Later)
    assert logs(state, client) == 1
    told = error_of(capsys)
    assert f"[owner.{reason}]" in told
    assert (f"{client}, your certificate, expired on " in told) == (reason == "identity")


@pytest.mark.parametrize("value", [None, ""])
def test_missing_option_is_named_with_its_variable(
    state: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    value: str | None,
) -> None:
    for variable in (CONNECT_VARIABLE, POD_VARIABLE, CLIENT_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    # What stands behind the program is the program's.
    assert run("exec", "--state", state, "web", "/bin/true", "--connect", "host:1") == 2
    assert "give --connect before the command's other words, or set $GUEST_OWNER_CONNECT" in (
        error_of(capsys)
    )
    assert run("logs", "--state", state, "--connect", "[::1]:1", "--pod", "shop") == 2
    assert "set $GUEST_OWNER_CLIENT [owner.options]" in error_of(capsys)
