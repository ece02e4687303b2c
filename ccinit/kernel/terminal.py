"""Pseudo-terminals: taking one that another program opened, and the size of its window.

A container runtime opens the terminal inside the container, where it has a name, and sends the
other end by SCM_RIGHTS (unix(7)) to a socket whose path it was given. For the size see
tty_ioctl(4).
"""

import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from ccinit.errors import ChildError, KernelError
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.listener import listen_on, open_stream


def set_window_size(descriptor: int, rows: int, columns: int) -> None:
    """Tell the programs on a terminal how large it is.

    Raises:
        KernelError: not a terminal.
    """
    try:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("=HHHH", rows, columns, 0, 0))
    except OSError as error:
        raise kernel_error(error, "ioctl", "TIOCSWINSZ") from error


@contextmanager
def listen_for_terminal(path: str) -> Iterator[socket.socket]:
    """Listen at `path`, to which a terminal can be sent.

    Raises:
        KernelError: the kernel refused.
    """
    with listen_on(open_stream(socket.AF_UNIX), path, path, backlog=1) as listener:
        try:
            yield listener
        finally:
            os.unlink(path)


def receive_terminal(listener: socket.socket) -> int:
    """Return the terminal that was sent; its sender has ended, so this does not wait.

    Raises:
        ChildError: `kernel.terminal`, none was sent.
        KernelError: `kernel.terminal`, one was sent, but no descriptor was left for it.
    """
    try:
        connection, _ = listener.accept()
        with connection:
            _data, descriptors, flags, _address = socket.recv_fds(connection, 4096, 1)
    except BlockingIOError as error:
        raise ChildError("kernel.terminal", "no terminal was sent") from error
    except OSError as error:
        raise kernel_error(error, "terminal", "accept") from error
    if descriptors:
        return descriptors[0]
    if flags & socket.MSG_CTRUNC:
        raise KernelError(errno.EMFILE, "terminal", "recvmsg")  # recvmsg(2) has no error for it
    raise ChildError("kernel.terminal", "no terminal was sent")
