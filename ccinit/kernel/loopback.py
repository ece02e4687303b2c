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
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return False
        return not _is_with_itself(connection)


def _is_with_itself(connection: socket.socket) -> bool:
    """Whether the kernel has given the connection the very port that it asks for.

    Then two SYNs crossed (RFC 9293, section 3.5): nobody listens, and it is connected all the same.
    """
    try:
        return bool(connection.getsockname() == connection.getpeername())
    except OSError:
        return False  # closed again by whoever had accepted it
