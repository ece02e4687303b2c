"""Waiting until the kernel has let go of a device whose file system was unmounted.

A file system goes on for as long as one of its files is open. One may be open for nobody: its
descriptor was sent through a Unix socket that was sent in the same way, and whoever could have
received them is dead. The kernel looks for such sockets only when some Unix socket is closed.
"""

import errno
import os
import socket
import time

_TRIES, _PAUSE_SECONDS = 50, 0.1


def wait_until_unclaimed(node: str) -> None:
    """Wait until no file system has the device, for five seconds at most.

    If one still has it, or if that cannot be told, whatever is done next with it says so.
    """
    for _ in range(_TRIES):
        if not _is_claimed(node):
            return
        for end in socket.socketpair():
            end.close()
        time.sleep(_PAUSE_SECONDS)


def _is_claimed(node: str) -> bool:
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False
