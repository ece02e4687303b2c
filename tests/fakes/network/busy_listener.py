"""A listening socket that cannot take connections for a moment."""

import errno
import os
import socket
from collections.abc import Sequence


class BusyListener(socket.socket):
    """Fails with each of some errors, then has some connections, and then is closed."""

    def __init__(self, connections: Sequence[socket.socket], *errors: int) -> None:
        super().__init__(socket.AF_UNIX)
        self._connections = list(connections)
        self._errors = list(errors)

    def accept(self) -> tuple[socket.socket, str]:
        if self._errors:
            number = self._errors.pop(0)
            raise OSError(number, os.strerror(number))
        if not self._connections:
            self.close()
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._connections.pop(0), ""
