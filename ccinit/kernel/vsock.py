"""AF_VSOCK listeners. `rpc` decides which peers may connect, and what they may ask."""

import socket

from ccinit.annotations import cast
from ccinit.kernel.listener import accept as listener_accept
from ccinit.kernel.listener import listen_on, open_stream

VMADDR_CID_ANY = 0xFFFF_FFFF


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
