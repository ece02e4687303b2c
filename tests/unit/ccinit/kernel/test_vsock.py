"""Accepting on a vsock listener, played by an object: this kernel may have no vsock."""

import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from ccinit.errors import KernelError
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
