"""The way to a guest's vsock port through a Unix socket: what is said on it, and how it fails."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, DeadlineError, PeerError
from host_runtime.plane.transport import UserLink
from host_runtime.programs.socket_folder import open_socket_folder

PORT = 1024
PACE_SECONDS = 0.05


class Device:
    """Takes one client, says its pieces one after the other, and hears the client's end."""

    def __init__(self, path: Path, pieces: Sequence[bytes], *, closes: bool) -> None:
        self.heard = b""
        self._pieces = pieces
        self._closes = closes
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(60)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        stream, _ = self._listener.accept()
        with stream:
            stream.settimeout(60)
            while not self.heard.endswith(b"\n"):
                self.heard += stream.recv(1)
            with suppress(ConnectionError):  # the client has gone, and has not read all of it
                for piece in self._pieces:
                    stream.sendall(piece)
                    time.sleep(PACE_SECONDS)
                if not self._closes:
                    self.heard += stream.recv(100)

    def finish(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive(), "the client has not closed its connection"
        self._listener.close()


@contextmanager
def listening(*pieces: bytes, closes: bool = False) -> Iterator[tuple[UserLink, Device]]:
    """Yield the way to a device; the block leaves no connection of it open."""
    with open_socket_folder() as folder:
        device = Device(folder / "vsock", pieces, closes=closes)
        yield UserLink(path=folder / "vsock"), device
        device.finish()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"OK 1073741824\nhello"], id="together"),
        pytest.param([b"OK 4294967295\n", b"hello"], id="longest"),
        pytest.param([b"O", b"K ", b"5", b"\n", b"hello"], id="in pieces"),
    ],
)
def test_stream_begins_behind_the_answer(pieces: list[bytes]) -> None:
    with listening(*pieces) as (link, device), link.connect(PORT, 60) as stream:
        assert stream.gettimeout() is None
        content = b""
        while len(content) < len(b"hello"):
            content += stream.recv(100)
        assert content == b"hello"
        stream.sendall(b"!")
    assert device.heard == b"CONNECT 1024\n!"


@pytest.mark.parametrize(
    ("pieces", "closes", "family", "reason"),
    [
        pytest.param([], True, PeerError, "vsock.refused", id="closed"),
        pytest.param([b"OK 5"], True, PeerError, "vsock.refused", id="closed within the answer"),
        pytest.param([b"NO 5\n"], False, PeerError, "vsock.answer", id="other answer"),
        pytest.param([b"OK\n"], False, PeerError, "vsock.answer", id="no port"),
        pytest.param([b"OK 5" * 8], False, PeerError, "vsock.answer", id="endless answer"),
        pytest.param([b"OK 5"], False, DeadlineError, "vsock.connect", id="silent"),
        pytest.param([b"O"] * 20, False, DeadlineError, "vsock.connect", id="slow"),
    ],
)
def test_connection_without_the_answer_is_closed_and_says_why(
    pieces: list[bytes], *, closes: bool, family: type[CcinitError], reason: str
) -> None:
    seconds = 0.5 if family is DeadlineError else 60
    with listening(*pieces, closes=closes) as (link, device):
        with pytest.raises(family) as error:
            link.connect(PORT, seconds)
        assert error.value.reason == reason
    assert device.heard == b"CONNECT 1024\n"


def test_path_without_a_listener_is_refused_with_the_cause(tmp_path: Path) -> None:
    with open_socket_folder() as folder, socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "bound"))
        for path, cause in (
            (folder / "none", "No such file or directory"),
            (folder / "bound", "Connection refused"),
            (tmp_path / ("x" * 108), "AF_UNIX path too long"),
        ):
            with pytest.raises(PeerError, match=cause) as error:
                UserLink(path=path).connect(PORT, 60)
            assert error.value.reason == "vsock.refused"


def test_socket_that_is_required_is_there_or_not() -> None:
    with open_socket_folder() as folder:
        link = UserLink(path=folder / "vsock")
        with pytest.raises(PeerError) as error:
            link.require_socket()
        assert error.value.reason == "vsock.refused"
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(link.path))
            link.require_socket()
