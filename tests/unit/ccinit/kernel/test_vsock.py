"""Accepting on a listener and connecting, both played by objects: this kernel may have no vsock."""

import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from ccinit.errors import CcinitError, DeadlineError, KernelError
from ccinit.kernel import listener as listener_module
from ccinit.kernel import vsock
from ccinit.kernel.event_loop import EventLoop

Accepted = Callable[..., int]


class Listener:
    """Always readable; answers `accept` from a list."""

    def __init__(self, *answers: int | tuple[int, int]) -> None:
        self._readable, self._writer = socket.socketpair()
        self._writer.send(b"x")
        self._answers = list(answers)

    def fileno(self) -> int:
        return self._readable.fileno()

    def accept(self) -> tuple[socket.socket, tuple[int, int]]:
        answer = self._answers.pop(0)
        if isinstance(answer, int):
            raise OSError(answer, "refused")
        return self._readable.dup(), answer

    def close(self) -> None:
        self._readable.close()
        self._writer.close()


@pytest.fixture
def accept_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accepted]:
    monkeypatch.setattr(listener_module, "SCARCITY_SECONDS", 0.001)
    listeners: list[Listener] = []

    def run(*answers: int | tuple[int, int]) -> int:
        listeners.append(Listener(*answers))
        connection, cid = EventLoop().run(vsock.accept(listeners[-1]))  # type: ignore[arg-type]
        with connection:
            assert not connection.getblocking()
        return cid

    yield run
    for listener in listeners:
        listener.close()


def test_accept_returns_the_peers_cid(accept_after: Accepted) -> None:
    assert accept_after((2, 7777)) == 2


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ECONNABORTED])
def test_accept_of_a_peer_that_left_waits_for_the_next(accept_after: Accepted, number: int) -> None:
    assert accept_after(number, (3, 1)) == 3


@pytest.mark.parametrize("number", listener_module.SCARCITY)
def test_r79_accept_while_fds_are_short_tries_again(accept_after: Accepted, number: int) -> None:
    """The peer waits, the guest lives."""
    assert accept_after(number, number, (2, 1)) == 2


def test_accept_on_a_broken_listener_is_a_kernel_error(accept_after: Accepted) -> None:
    with pytest.raises(KernelError) as error:
        accept_after(errno.EBADF)
    assert error.value.reason == "kernel.accept"


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
        patch.setattr("ccinit.kernel.vsock.socket.socket", make)
        return EventLoop().run(vsock.connect_to_host(1025, played.seconds))


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
