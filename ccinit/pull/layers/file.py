"""A layer's tar while it is being written, on scratch or in memory."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from ccinit.errors import CcinitError, ChildError, KernelError, LimitExceededError

_FILE_MODE = 0o600
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM = os.strerror(errno.ENOSPC)
_DETAIL_LENGTH = 200


def no_room(detail: str) -> LimitExceededError:
    """Return the error of a store that has no room for an image."""
    full = "the scratch disk, or without one limits.memory_store_bytes, is full"
    return LimitExceededError("pull.enospc", f"{full}: {detail}")


@contextmanager
def telling_no_room() -> Iterator[None]:
    """Tell a full store from other failures of a program that writes to it."""
    try:
        yield
    except ChildError as error:
        # Afterwards there may be room again. What a child says chooses the reason and no more.
        if _NO_ROOM in error.detail:
            raise no_room(error.detail[:_DETAIL_LENGTH]) from error
        raise


def write_error(error: OSError, operation: str, path: str) -> CcinitError:
    """Return what it means that a file of a layer could not be written."""
    if error.errno in _FULL:
        return no_room(path)
    return KernelError(error.errno or 0, operation, path)


class LayerFile:
    """A new file for one layer's tar.

    Attributes:
        fd: of the file, open for writing.
        size: bytes written so far.
    """

    def __init__(self, path: str) -> None:
        """Create the file; raises KernelError if there is one, LimitExceededError if no room is."""
        self._path = path
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self.fd = os.open(path, flags, _FILE_MODE)
        except OSError as error:
            raise write_error(error, "open", path) from error
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
            raise write_error(error, "write", self._path) from error
        self.size += len(data)
