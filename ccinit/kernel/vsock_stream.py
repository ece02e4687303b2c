"""Connections over AF_VSOCK to the host; their users speak TLS over them."""

import errno
import os
import socket

from ccinit.errors import KernelError
from ccinit.kernel.event_loop import deadline, writable
from ccinit.kernel.libc import kernel_error

VMADDR_CID_HOST = 2


async def connect_to_host(port: int, seconds: float) -> socket.socket:
    """Connect to `port` of the host; the socket does not block.

    Raises:
        KernelError: no vsock, or nothing listens there.
        DeadlineError: `vsock.connect`, no answer within `seconds`.
    """
    try:
        connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except OSError as error:
        raise kernel_error(error, "socket", "AF_VSOCK") from error
    try:
        async with deadline(seconds, "vsock.connect"):
            await _connect(connection, port)
    except BaseException:
        connection.close()
        raise
    return connection


async def _connect(connection: socket.socket, port: int) -> None:
    connection.setblocking(False)  # noqa: FBT003 (positional only)
    number = connection.connect_ex((VMADDR_CID_HOST, port))
    if number == errno.EINPROGRESS:
        await writable(connection.fileno())
        number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise KernelError(number, "connect", f"host's vsock port {port}, {os.strerror(number)}")
