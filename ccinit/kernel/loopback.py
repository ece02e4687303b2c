"""Connections to the pod's own ports."""

import errno
import socket

from ccinit.kernel.event_loop import at_most, writable
from ccinit.kernel.listener import open_stream

_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


async def accepts_connections(port: int, own: str, seconds: float) -> bool:
    """Whether somebody accepts a connection to TCP `port` of 127.0.0.1, of ::1 or of `own`.

    They are tried in this order, and no byte is exchanged. In a pod without IPv4, servers may
    listen on IPv6 only, and some listen on the address of their host name.

    Raises:
        KernelError: no socket could be made.
    """
    async with at_most(seconds):
        owns = socket.AF_INET6 if ":" in own else socket.AF_INET
        for family, address in (*_LOOPBACK, (owns, own)):
            if await _is_accepted(family, (address, port)):
                return True
    return False


async def _is_accepted(family: socket.AddressFamily, address: tuple[str, int]) -> bool:
    with open_stream(family) as connection:
        connection.setblocking(False)  # noqa: FBT003 (positional only)
        begun = connection.connect_ex(address)
        if begun not in {0, errno.EINPROGRESS}:
            return False
        await writable(connection.fileno())
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return False
        return not _is_self_connected(connection)


def _is_self_connected(connection: socket.socket) -> bool:
    """Whether the kernel has given the connection the very port that it asks for.

    That is a simultaneous open with itself (RFC 9293, section 3.5): connected, although nobody
    listens.
    """
    try:
        return bool(connection.getsockname() == connection.getpeername())
    except OSError:
        return False  # closed again by whoever had accepted it
