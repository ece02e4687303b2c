"""A layer's tar on scratch while it is being written."""

import errno
import os
from typing import Self

from ccinit.errors import KernelError, LimitExceededError

_FILE_MODE = 0o600


class LayerFile:
    """A new file for one layer's tar.

    Attributes:
        fd: of the file, open for writing.
        size: bytes written so far.
    """

    def __init__(self, path: str) -> None:
        """Create the file; raises KernelError, also if there is one."""
        self._path = path
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self.fd = os.open(path, flags, _FILE_MODE)
        except OSError as error:
            raise KernelError(error.errno or 0, "open", path) from error
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        os.close(self.fd)

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`.

        Raises:
            LimitExceededError: `pull.enospc`.
            KernelError: the kernel refused.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.fd, view) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise LimitExceededError("pull.enospc", "the scratch disk is full") from error
            raise KernelError(error.errno or 0, "write", self._path) from error
        self.size += len(data)
