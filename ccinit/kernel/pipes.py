"""Pipes and socket pairs to other processes: as many as requested at once, or none."""

import os
import socket

from ccinit.kernel.libc import kernel_error
from ccinit.values import frozen


@frozen
class Pipe:
    """Two descriptors, both close-on-exec."""

    reader: int
    writer: int

    def close(self) -> None:
        """Close both."""
        os.close(self.reader)
        os.close(self.writer)


def open_pipes(count: int) -> tuple[Pipe, ...]:
    """Make `count` pipes.

    Raises:
        KernelError: `kernel.pipe2`, not enough free descriptors; none stays open.
    """
    pipes: list[Pipe] = []
    try:
        for _ in range(count):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            pipes.append(Pipe(reader=reader, writer=writer))
    except OSError as error:
        for pipe in pipes:
            pipe.close()
        raise kernel_error(error, "pipe2", f"{count} pipes") from error
    return tuple(pipes)


def open_socket_pair() -> tuple[socket.socket, socket.socket]:
    """Make two sockets that are connected with each other.

    Raises:
        KernelError: `kernel.socketpair`.
    """
    try:
        return socket.socketpair()
    except OSError as error:
        raise kernel_error(error, "socketpair", "AF_UNIX") from error
