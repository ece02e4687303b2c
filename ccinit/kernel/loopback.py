"""Connections to the pod's own ports."""

import errno
import socket

from ccinit.errors import DeadlineError
from ccinit.kernel.event_loop import deadline
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.task import writable


async def accepts_connections(port: int, seconds: float) -> bool:
    """Whether somebody accepts a connection to TCP `port` of 127.0.0.1; no byte is exchanged.

    Raises:
        KernelError: no socket could be made.
    """
    try:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise kernel_error(error, "socket", "AF_INET") from error
    with connection:
        begun = connection.connect_ex(("127.0.0.1", port))
        if begun not in {0, errno.EINPROGRESS}:
            return False
        try:
            async with deadline(seconds, "probe.timeout"):
                await writable(connection.fileno())
        except DeadlineError:
            return False
        return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
