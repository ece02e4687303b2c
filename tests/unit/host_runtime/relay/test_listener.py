"""Connections are taken until there is no listener any more, and not until the first trouble."""

import errno
import socket
import threading

import pytest

from host_runtime.relay.listener import accept_all, serve_apart
from tests.fakes.network.busy_listener import BusyListener


def test_trouble_is_told_once_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("host_runtime.relay.listener.time.sleep", waits.append)
    troubles = (errno.EMFILE, errno.EMFILE, errno.ECONNABORTED, errno.EPERM)
    said: list[str] = []
    near, far = socket.socketpair()
    with near, far:
        assert list(accept_all(BusyListener([near, far], *troubles), said.append)) == [near, far]
    assert len(waits) == len(troubles)
    assert [text.partition(": ")[2] for text in said] == [
        "Too many open files",
        "Software caused connection abort",
        "Operation not permitted",
    ]


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL])
def test_listener_that_is_closed_or_shut_down_ends_it(number: int) -> None:
    near, far = socket.socketpair()
    with near, far, BusyListener([near], number) as listener:
        assert list(accept_all(listener, pytest.fail)) == []


def test_connection_without_a_thread_is_an_error_that_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", fail)
        with pytest.raises(OSError, match="no thread") as error:
            serve_apart(pytest.fail)
    assert error.value.errno == errno.EAGAIN
    served = threading.Event()
    serve_apart(served.set)
    assert served.wait(60)
