"""The job that pipes a tar in memory to mkfs.erofs, freeing its memory as it is read.

mkfs.erofs first copies the content of all files into its output (at offset 1 TiB, truncated at the
end) and then compresses. As it reads from this child's pipe, that copy grows while the tar shrinks,
so a layer is in memory once, not twice. The tar is a file on a tmpfs, by fd. It was checked before,
and the result is compared with that check, so nothing here has to be trusted.
"""

import mmap
import os
from collections.abc import Mapping

from ccinit.annotations import Protocol
from ccinit.errors import ChildError
from ccinit.kernel.libc import kernel_error
from ccinit.pull.layers.stream import NEIGHBOUR_ENDED, SINK, SOURCE
from ccinit.pull.messages.feed import FedTar, FeedRequest

_WINDOW_BYTES = 1 << 20


class FeedChannel(Protocol):
    """The job's connection to the outside: a file and a pipe, by name."""

    @property
    def fds(self) -> Mapping[str, int]:
        """Open for reading and writing, and for writing."""


def feed_job(_request: FeedRequest, channel: FeedChannel) -> FedTar:
    """Write the file into the pipe from its beginning, punching holes where it was written.

    Raises:
        ChildError: `pull.neighbour`, the reader is gone.
        KernelError: the kernel refused.
    """
    tar, sink = channel.fds[SOURCE], channel.fds[SINK]
    try:
        size = os.fstat(tar).st_size
        for offset in range(0, size, _WINDOW_BYTES):
            _feed(tar, sink, offset, min(_WINDOW_BYTES, size - offset))
    except BrokenPipeError as error:
        raise ChildError(NEIGHBOUR_ENDED, "nobody reads the tar") from error
    except OSError as error:
        raise kernel_error(error, "feed", "tar") from error
    return FedTar()


def _feed(tar: int, sink: int, offset: int, length: int) -> None:
    with mmap.mmap(tar, length, offset=offset) as window:
        with memoryview(window) as view:
            sent = 0
            while sent < length:
                sent += os.write(sink, view[sent:])
        window.madvise(mmap.MADV_REMOVE)
