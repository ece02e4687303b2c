"""Stream listeners: TCP everywhere or on loopback, and accepting while descriptors are short."""

import errno
import socket

from ccinit.kernel.event_loop import readable, sleep
from ccinit.kernel.libc import kernel_error

SCARCITY = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SCARCITY_SECONDS = 0.1


def listen_tcp(port: int) -> socket.socket:
    """Listen on `port` of every IPv6 and IPv4 address; the socket does not block.

    Connections inherit SO_KEEPALIVE, which detects peers that vanish silently, so it need not be
    set on each of them, where that could fail.

    Raises:
        KernelError: the port is taken, or the kernel has no IPv6.
    """
    listener = open_stream(socket.AF_INET6)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except OSError as error:
        listener.close()
        raise kernel_error(error, "setsockopt", f"TCP port {port} of ::") from error
    return listen_on(listener, ("::", port), f"TCP port {port} of ::", backlog=8)


def listen_loopback(port: int) -> socket.socket:
    """Listen on `port` of 127.0.0.1 alone; the socket does not block.

    Raises:
        KernelError: the port is taken.
    """
    listener = open_stream(socket.AF_INET)
    return listen_on(listener, ("127.0.0.1", port), f"TCP port {port} of 127.0.0.1", backlog=16)


def reserve_loopback6(port: int) -> socket.socket | None:
    """Bind `port` of ::1 without listening: the kernel refuses connections there at once.

    Returns:
        The socket, which holds it; None if there is no such address, so nobody can take the port.

    Raises:
        KernelError: the port is taken.
    """
    try:
        holder = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return None
        raise kernel_error(error, "socket", "AF_INET6") from error
    try:
        holder.bind(("::1", port))  # not to be shared: neither SO_REUSEADDR nor SO_REUSEPORT
    except OSError as error:
        holder.close()
        if error.errno == errno.EADDRNOTAVAIL:
            return None
        raise kernel_error(error, "bind", f"TCP port {port} of ::1") from error
    return holder


def open_stream(family: socket.AddressFamily) -> socket.socket:
    """Return a stream socket.

    Raises:
        KernelError: this kernel has no such family, or no descriptor is left.
    """
    try:
        return socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise kernel_error(error, "socket", family.name) from error


def listen_on(
    listener: socket.socket, address: str | tuple[str | int, int], name: str, backlog: int
) -> socket.socket:
    """Bind `listener` and let it listen, without blocking; it is closed if that fails.

    Raises:
        KernelError: the address, `name` in the error's text, is taken.
    """
    try:
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)  # noqa: FBT003 (positional only)
    except OSError as error:
        listener.close()
        raise kernel_error(error, "bind", name) from error
    return listener


def is_own_address(peer: object) -> bool:
    """Return whether the address of a TCP peer is one of this machine's: then so is the peer.

    Nobody can bind or connect from an address that is not the machine's. In doubt (if that cannot
    be tried) the address counts as its own.

    Args:
        peer: of an IPv6 socket, as `accept` returns it; an IPv4 address is a mapped one.
    """
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as trial:
            trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            match peer:
                case (str(host), int(), int(), int(scope)):
                    trial.bind((host, 0, 0, scope))
                case _:
                    return True
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


async def accept(listener: socket.socket) -> tuple[socket.socket, object]:
    """Wait for a connection; return it (it does not block) and the peer's address.

    Raises:
        KernelError: the listener is broken. While fds or memory are short, the peer waits.
    """
    while True:
        await readable(listener.fileno())
        try:
            connection, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue  # gone again before we looked
        except OSError as error:
            if error.errno not in SCARCITY:
                raise kernel_error(error, "accept", "stream") from error
            await sleep(SCARCITY_SECONDS)  # the peer waits in the backlog meanwhile
            continue
        connection.setblocking(False)  # noqa: FBT003 (positional only)
        return connection, address
