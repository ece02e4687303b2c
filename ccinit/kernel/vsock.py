"""AF_VSOCK: listeners, whose peers `rpc` judges, and connections to the host, which carry TLS."""

import errno
import os
import socket

from ccinit.annotations import cast
from ccinit.errors import KernelError
from ccinit.kernel.event_loop import deadline, writable
from ccinit.kernel.listener import accept as listener_accept
from ccinit.kernel.listener import listen_on, open_stream

VMADDR_CID_ANY = 0xFFFF_FFFF
VMADDR_CID_HOST = 2


def listen(port: int) -> socket.socket:
    """Listen on `port` of every CID of this machine; the socket does not block.

    Raises:
        KernelError: no vsock, or the port is taken.
    """
    listener = open_stream(socket.AF_VSOCK)
    return listen_on(listener, (VMADDR_CID_ANY, port), f"vsock port {port}", backlog=8)


async def accept(listener: socket.socket) -> tuple[socket.socket, int]:
    """Wait for a connection; return it (it does not block) and the peer's CID.

    Raises:
        KernelError: the listener is broken.
    """
    connection, address = await listener_accept(listener)
    cid, _port = cast("tuple[int, int]", address)
    return connection, cid


async def connect_to_host(port: int, seconds: float) -> socket.socket:
    """Connect to `port` of the host; the socket does not block.

    Raises:
        KernelError: no vsock, or nothing listens there.
        DeadlineError: `vsock.connect`, no answer within `seconds`.
    """
    connection = open_stream(socket.AF_VSOCK)
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
