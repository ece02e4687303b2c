"""AF_VSOCK listeners. Who may speak to them, and what, is `rpc`'s."""

import socket
from typing import cast

from ccinit.kernel.libc import kernel_error
from ccinit.kernel.listener import accept as listener_accept

VMADDR_CID_ANY = 0xFFFF_FFFF


def listen(port: int, backlog: int = 8) -> socket.socket:
    """Listen on `port` of every CID of this machine; the socket does not block.

    Raises:
        KernelError: no vsock, or the port is taken.
    """
    try:
        listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except OSError as error:
        raise kernel_error(error, "socket", "AF_VSOCK") from error
    try:
        listener.bind((VMADDR_CID_ANY, port))
        listener.listen(backlog)
        listener.setblocking(False)  # noqa: FBT003 (positional only)
    except OSError as error:
        listener.close()
        raise kernel_error(error, "bind", f"vsock port {port}") from error
    return listener


async def accept(listener: socket.socket) -> tuple[socket.socket, int]:
    """Wait for a connection; return it (it does not block) and the peer's CID.

    Raises:
        KernelError: the listener is broken.
    """
    connection, address = await listener_accept(listener)
    cid, _port = cast("tuple[int, int]", address)
    return connection, cid
