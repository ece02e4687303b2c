"""Who may connect to the KBS, how many, for how long: real sockets and TLS, most of them idle."""

import http.client
import logging
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from ccinit.errors import ConfigError
from guest_owner.kbs.authority import create_identity
from guest_owner.kbs.http.connections import Connections
from guest_owner.kbs.http.server import open_listener
from tests.integration.kbs import harness
from tests.integration.kbs.harness import LIMITS, SECRET, Kbs, running_kbs

ROOM = 8
TOO_MANY = 3 * ROOM
PATIENT = replace(LIMITS, connections=ROOM, head_seconds=120.0, reply_seconds=1.0)
DEADLINE_SECONDS = 60.0
TCP_ESTABLISHED = 1  # <netinet/tcp.h>


@pytest.fixture(scope="module")
def crowded(registered_state: Path) -> Iterator[Kbs]:
    """A KBS with room for few connections, whose other deadlines are far away."""
    with running_kbs(registered_state, PATIENT) as server:
        yield server


def silent(kbs: Kbs) -> socket.socket:
    return socket.create_connection(("127.0.0.1", kbs.port), DEADLINE_SECONDS)


def half_a_handshake(kbs: Kbs) -> socket.socket:
    connection = silent(kbs)
    connection.sendall(b"\x16\x03\x01\x02\x00\x01")
    return connection


def idle(kbs: Kbs) -> ssl.SSLSocket:
    return kbs.tls.wrap_socket(silent(kbs), server_hostname="localhost")


def half_a_body(kbs: Kbs) -> ssl.SSLSocket:
    connection = idle(kbs)
    connection.sendall(b"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    return connection


def is_open(connection: socket.socket) -> bool:
    """By TCP: with OpenSSL 3.6 and Python 3.14, one's EPIPE is told of those that are read next."""
    state: int = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state == TCP_ESTABLISHED


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("connect", [silent, half_a_handshake, idle, half_a_body])
def test_guest_is_served_though_others_hold_all_connections(
    crowded: Kbs, connect: Callable[[Kbs], socket.socket]
) -> None:
    with ExitStack() as stack:
        others = [stack.enter_context(connect(crowded)) for _ in range(TOO_MANY)]
        client = crowded.client()
        assert client.auth().status_code == 200
        assert client.attest().status_code == 200
        assert client.open(client.get()) == SECRET
        wait_until(lambda: sum(map(is_open, others)) < ROOM)
        assert any(map(is_open, others))


def open_narrow_listener(host: str, port: int) -> socket.socket:
    """A listener whose connections keep little of what their peers do not take."""
    listener = open_listener(host, port)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return listener


def test_peer_that_does_not_take_its_replies_is_let_go(
    registered_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "open_listener", open_narrow_listener)
    with running_kbs(registered_state, PATIENT) as kbs, socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", kbs.port))
        with kbs.tls.wrap_socket(raw, server_hostname="localhost") as connection:
            connection.settimeout(0.2)
            request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 1000

            def is_gone() -> bool:
                try:
                    connection.send(request)
                except TimeoutError:
                    return False
                except OSError:
                    return True
                return False

            wait_until(is_gone)
        assert kbs.client().auth().status_code == 200


def test_guest_that_refuses_the_certificate_is_counted_and_told_once(
    registered_state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_kbs(registered_state) as kbs:
        assert "certificate_alerts" not in kbs.client().http.get("/metrics").text
        for _ in range(3):
            with silent(kbs) as raw, pytest.raises(ssl.SSLCertVerificationError):
                ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")
        with silent(kbs) as raw, pytest.raises(ssl.SSLCertVerificationError):
            kbs.tls.wrap_socket(raw, server_hostname="kbs.example")
        name = "guest_owner_kbs_certificate_alerts_total"
        told = (f'{name}{{alert="unknown_ca"}} 3\n', f'{name}{{alert="bad_certificate"}} 1\n')
        wait_until(lambda: all(one in kbs.client().http.get("/metrics").text for one in told))
    lines = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert [line.partition(":")[0] for line in lines] == [
        "127.0.0.1 refuses our certificate (unknown_ca)",
        "127.0.0.1 refuses our certificate (bad_certificate)",
    ]


def test_server_that_can_let_nobody_in_ends(
    registered_state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Connections, "accept_all", fail)
    with running_kbs(registered_state) as kbs:
        wait_until(lambda: "no connection is let in any more" in caplog.text)
        wait_until(lambda: cannot_connect(kbs))


def test_server_that_runs_on_tells_each_day_what_it_told_at_its_start(
    registered_state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    days = iter([(), ("server.pem expires on 2029-03-02",), None, ("it has ended",)])

    def look() -> tuple[str, ...]:
        told = next(days, ())
        if told is None:
            raise ConfigError("state.read", "cannot read server.pem")
        return told

    monkeypatch.setattr("guest_owner.kbs.http.server._LOOK_SECONDS", 0.01)
    with running_kbs(registered_state, look=look) as kbs:
        wait_until(lambda: "it has ended" in caplog.text)
        assert kbs.client().auth().status_code == 200
    lines = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert lines == [
        "server.pem expires on 2029-03-02",
        "state.read: cannot read server.pem",
        "it has ended",
    ]


def cannot_connect(kbs: Kbs) -> bool:
    try:
        silent(kbs).close()
    except ConnectionRefusedError:
        return True
    return False


def test_all_addresses_of_a_machine_are_those_of_both_protocols() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    with open_listener("::", 0) as listener:
        port = listener.getsockname()[1]
        for address in ("::1", "127.0.0.1"):
            socket.create_connection((address, port), DEADLINE_SECONDS).close()
    with open_listener("::1", 0) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), DEADLINE_SECONDS)


@contextmanager
def command(
    state: Path, before: tuple[str, ...] = ()
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command in a process of its own, started by `before`, and its port."""
    serve = ("-m", "guest_owner", "kbs", "serve", "--listen", "127.0.0.1:0", "--state", str(state))
    with subprocess.Popen(
        (*before, sys.executable, *serve), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            port = re.search(r":(\d+)$", process.stdout.readline().strip())
            assert port is not None
            yield process, int(port[1])
        finally:
            process.terminate()


def limited(descriptors: str) -> tuple[str, ...]:
    return "sh", "-c", f'ulimit {descriptors}; exec "$@"', "sh"


def test_limit_that_the_kernel_would_raise_turns_nobody_away(registered_state: Path) -> None:
    context = ssl.create_default_context(cafile=registered_state / "ca.pem")
    with command(registered_state, limited("-Sn 64")) as (process, port), ExitStack() as stack:
        for _ in range(ROOM):  # all are there at once
            raw = socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS)
            stack.enter_context(context.wrap_socket(raw, server_hostname="localhost"))
        assert told_end(port)
        process.terminate()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_limit_that_leaves_no_room_is_told_at_once(registered_state: Path) -> None:
    with command(registered_state, limited("-n 72")) as (process, port):
        assert process.stderr is not None
        told = "room for 8 of 256 connections: 72 files may be open, 320 would have to be"
        assert process.stderr.readline().startswith(f"guest-owner: {told}")
        assert told_end(port)


def shown_certificate(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as raw:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(raw) as connection:
            return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")


def told_end(port: int) -> int:
    """When the certificate ends, by the metrics."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=DEADLINE_SECONDS, context=context
    )
    with closing(client):
        client.request("GET", "/metrics")
        text = client.getresponse().read().decode()
    found = re.search(r"^guest_owner_kbs_certificate_not_after_seconds (\d+)$", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def end_of(pem: str) -> int:
    return int(x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp())


def test_hangup_has_the_certificate_read_anew(registered_state: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    shutil.copytree(registered_state, state)
    other = create_identity(("127.0.0.1",))
    before, after = (state / "server.pem").read_text(), other.certificate.decode()
    with command(state) as (process, port):
        assert process.stderr is not None
        assert shown_certificate(port) == before
        assert told_end(port) == end_of(before)
        (state / "server.pem").write_text(after)
        process.send_signal(signal.SIGHUP)
        # Its key is still the other one's.
        assert "the certificate stays as it was" in process.stderr.readline()
        assert shown_certificate(port) == before
        (state / "server-key.pem").write_bytes(other.certificate_key)
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline() == "guest-owner: read the certificate anew\n"
        assert shown_certificate(port) == after
        assert told_end(port) == end_of(after)
        # As a start says it: its authority is still the other one's.
        assert "server.pem is not signed by" in process.stderr.readline()
        (state / "ca.pem").write_bytes(other.authority)
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline() == "guest-owner: read the certificate anew\n"
        process.terminate()
        assert process.stderr.read() == ""


def test_end_waits_for_a_request_and_for_nobody_who_only_stays_connected(
    registered_state: Path,
) -> None:
    context = ssl.create_default_context(cafile=registered_state / "ca.pem")
    body = b'{"version":"0.4.0","tee":"tpm","extra-params":""}'
    head = f"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"

    def connect(stack: ExitStack) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS)
        return stack.enter_context(context.wrap_socket(raw, server_hostname="localhost"))

    with command(registered_state) as (process, port), ExitStack() as stack:
        assert process.stderr is not None
        asking, idle = connect(stack), connect(stack)
        asking.sendall(head.encode() + body[:9])
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200 ")  # and so the other's head was read
        process.send_signal(signal.SIGTERM)
        with suppress(ConnectionResetError):
            assert idle.recv(1) == b""
        asking.sendall(body[9:])
        assert asking.recv(4096).startswith(b"HTTP/1.1 200 ")
        asking.close()
        assert process.stderr.read() == ""
        assert process.wait(DEADLINE_SECONDS) == -signal.SIGTERM
