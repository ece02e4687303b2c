"""Accepts connections on a listening socket, and survives moments when that is impossible."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from host_runtime.programs.thread_start import start_thread
from measured_boot.command_line.errors import describe_error

_PAUSE_SECONDS: Final = 0.1
_OVER: Final = frozenset((errno.EBADF, errno.EINVAL))  # closed, shut down


def accept_all(listener: socket.socket, complain: Callable[[str], None]) -> Iterator[socket.socket]:
    """Yield connections until the listener is shut down or closed.

    Any other failure (no descriptors or memory are left, a client is gone already) may pass in a
    moment: it is reported once, and tried again.
    """
    told = ""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno in _OVER:
                return
            if told != describe_error(error):
                told = describe_error(error)
                complain(f"cannot accept a connection: {told}")
            time.sleep(_PAUSE_SECONDS)
        else:
            told = ""
            yield connection


def serve_apart(serve: Callable[..., object], *arguments: object) -> None:
    """Serve a connection in a daemon thread of its own.

    Raises:
        OSError: EAGAIN, no thread can be had: this connection is lost, the next may be served.
    """
    start_thread(threading.Thread(target=serve, args=arguments, daemon=True))
