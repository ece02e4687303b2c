"""The job that gives a tar in memory to mkfs.erofs, and its memory back while it is read.

mkfs.erofs keeps the content of all files in its output (at 1 TiB, cut off in the end) before it
compresses the first one. From a pipe behind this child, that copy grows as the tar shrinks, so a
layer is in memory once and not twice. The tar is a file on a tmpfs, by fd; it was checked before,
and what is made of it is compared with that check, so nothing here is believed.
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
    """What the job has of the outside: a file and a pipe, by their names."""

    @property
    def fds(self) -> Mapping[str, int]:
        """Open for reading and writing, and for writing."""


def feed_job(_request: FeedRequest, channel: FeedChannel) -> FedTar:
    """Write the file into the pipe from its beginning; of what is written a hole remains.

    Raises:
        ChildError: `pull.neighbour`, nobody reads any more.
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
