"""Connecting to the host, with a socket that is played: this machine may have no vsock."""

import errno
import socket

import pytest

from ccinit.errors import CcinitError, DeadlineError, KernelError
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.vsock_stream import connect_to_host


class Played:
    """A socket whose connect answers `at_once`, and `later` once it can be written."""

    def __init__(self, at_once: int, later: int = 0, *, writable: bool = True) -> None:
        self._at_once, self._later = at_once, later
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)  # noqa: FBT003 (positional only)
        while not writable:
            try:
                self._ours.send(bytes(65536))
            except BlockingIOError:
                break
        self.seconds = 60.0 if writable else 0.01
        self.address: object = None
        self.is_closed = False

    def fileno(self) -> int:
        return self._ours.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket's own form
        assert flag is False

    def connect_ex(self, address: tuple[int, int]) -> int:
        self.address = address
        return self._at_once

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return self._later

    def close(self) -> None:
        self.is_closed = True
        self._ours.close()
        self._theirs.close()


def connect(monkeypatch: pytest.MonkeyPatch, played: Played) -> object:
    def make(family: int, kind: int) -> Played:
        assert (family, kind) == (socket.AF_VSOCK, socket.SOCK_STREAM)
        return played

    with monkeypatch.context() as patch:
        patch.setattr("ccinit.kernel.vsock_stream.socket.socket", make)
        return EventLoop().run(connect_to_host(1025, played.seconds))


@pytest.mark.parametrize("at_once", [0, errno.EINPROGRESS])
def test_connection_to_the_host_is_returned(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    played = Played(at_once)
    assert connect(monkeypatch, played) is played
    assert played.address == (2, 1025)
    assert not played.is_closed
    played.close()


@pytest.mark.parametrize(
    ("played", "error", "reason"),
    [
        pytest.param(Played(errno.ENODEV), KernelError, "kernel.connect", id="no device"),
        pytest.param(
            Played(errno.EINPROGRESS, errno.ECONNRESET), KernelError, "kernel.connect", id="nobody"
        ),
        pytest.param(
            Played(errno.EINPROGRESS, writable=False), DeadlineError, "vsock.connect", id="silence"
        ),
    ],
)
def test_connection_that_fails_is_closed(
    monkeypatch: pytest.MonkeyPatch, played: Played, error: type[CcinitError], reason: str
) -> None:
    with pytest.raises(error) as refused:
        connect(monkeypatch, played)
    assert refused.value.reason == reason
    assert played.is_closed
