"""The relay between a guest's vsock connections and the KBS, with a Unix socket for the guest."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from host_runtime.programs.process import python_command, python_environment
from host_runtime.relay.kbs import KbsAddress, guest_path, open_unix_listener, serve
from tests.fakes.network.tls_server import TlsServer
from tests.integration.free_ports import free_port

SECONDS = 60.0


@contextmanager
def relay(tmp_path: Path, port: int) -> Iterator[Callable[[], socket.socket]]:
    """Run the relay; yields how a guest connects."""
    path = guest_path(tmp_path / "vsock")
    with open_unix_listener(path) as listener:
        address = KbsAddress(host="127.0.0.1", port=port)
        thread = threading.Thread(target=serve, args=(listener, address))
        thread.start()

        def connect() -> socket.socket:
            guest = socket.socket(socket.AF_UNIX)
            guest.settimeout(SECONDS)
            guest.connect(str(path))
            return guest

        try:
            yield connect
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS)
    assert not thread.is_alive()


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def receive(guest: socket.socket) -> bytes:
    received = b""
    while data := guest.recv(65536):
        received += data
    return received


def test_bytes_and_ends_pass_both_ways(tmp_path: Path) -> None:
    with TlsServer(None, echo) as kbs, relay(tmp_path, kbs.port) as connect:
        guests = [connect() for _ in range(3)]
        for number, guest in enumerate(guests):
            guest.sendall(bytes([number]) * 100_000)
            guest.shutdown(socket.SHUT_WR)
        for number, guest in enumerate(guests):
            with guest:
                assert receive(guest) == bytes([number]) * 100_000
    assert kbs.connections == 3


def test_guest_is_told_by_an_end_that_the_kbs_does_not_answer_and_the_host_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    with relay(tmp_path, port) as connect:
        for _ in range(3):
            with connect() as guest:
                assert receive(guest) == b""
    said = capfd.readouterr().err
    assert said == f"kbs relay: 127.0.0.1:{port}: Connection refused\n"


def test_connections_beyond_the_cap_are_closed_and_places_come_back(tmp_path: Path) -> None:
    with TlsServer(None, echo) as kbs, relay(tmp_path, kbs.port) as connect:
        held = [connect() for _ in range(16)]
        for guest in held:
            guest.sendall(b"x")
            assert guest.recv(1) == b"x"
        with connect() as beyond:
            assert receive(beyond) == b""
        for guest in held:
            guest.shutdown(socket.SHUT_WR)
            assert receive(guest) == b""
            guest.close()
        deadline = time.monotonic() + SECONDS
        while not gets_through(connect):
            assert time.monotonic() < deadline, "no place came back"


def gets_through(connect: Callable[[], socket.socket]) -> bool:
    """Whether a new connection does; one too many is closed, with what it has said unread."""
    with connect() as guest, suppress(ConnectionError):
        guest.sendall(b"y")
        guest.shutdown(socket.SHUT_WR)
        return receive(guest) == b"y"
    return False


def test_program_relays_from_the_moment_that_it_says_so(tmp_path: Path) -> None:
    path = guest_path(tmp_path / "vsock")
    reader, writer = os.pipe()
    with TlsServer(None, echo) as kbs:
        command = (
            *python_command("host_runtime.relay.kbs"),
            *("--path", str(path), "--ready", str(writer), f"127.0.0.1:{kbs.port}"),
        )
        process = subprocess.Popen(command, pass_fds=(writer,), env=dict(python_environment()))
        os.close(writer)
        try:
            assert os.read(reader, 1) == b"\n"
            with socket.socket(socket.AF_UNIX) as guest:
                guest.settimeout(SECONDS)
                guest.connect(str(path))
                guest.sendall(b"hello")
                assert guest.recv(5) == b"hello"
        finally:
            os.close(reader)
            process.terminate()
            process.wait(SECONDS)
