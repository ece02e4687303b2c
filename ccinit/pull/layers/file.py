"""Writing an image's files, on scratch or in memory, with a reason of its own for a full store."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ccinit.errors import CcinitError, ChildError, LimitExceededError
from ccinit.kernel.libc import kernel_error

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM = os.strerror(errno.ENOSPC)
_DETAIL_LENGTH = 200


def no_room(detail: str) -> LimitExceededError:
    """Return the error for a store that has no space for an image."""
    full = "the scratch disk, or without one limits.memory_store_bytes, is full"
    return LimitExceededError("pull.enospc", f"{full}: {detail}")


@contextmanager
def telling_no_room() -> Iterator[None]:
    """Distinguish a full store from other failures of a program that writes to it."""
    try:
        yield
    except ChildError as error:
        # By now there may be space again, so go by the child's text, which only selects the reason.
        if _NO_ROOM in error.detail:
            raise no_room(error.detail[:_DETAIL_LENGTH]) from error
        raise


def write_error(error: OSError, operation: str, path: str) -> CcinitError:
    """Return the error for a failed write to a layer's file."""
    if error.errno in _FULL:
        return no_room(path)
    return kernel_error(error, operation, path)


def write_all(fd: int, data: bytes | memoryview, name: str) -> None:
    """Write all of `data` to the file.

    Raises:
        LimitExceededError: `pull.enospc`.
        KernelError: the kernel refused.
    """
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise write_error(error, "write", name) from error
