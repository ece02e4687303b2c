"""Layers on their way from one child to the next, one after the other through a pipe or a file.

    layer = chunk*, end      chunk = length u32 (1 … 256 KiB), bytes      end = length 0; big-endian

The explicit end distinguishes a complete layer from a dead writer. Which layers come is agreed
elsewhere, and the reader has to verify their bytes.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator, Mapping

from ccinit.annotations import Protocol, TypeVar
from ccinit.errors import ChildError
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.libc import kernel_error
from ccinit.pull.layers.file import write_error

PIPE_BYTES = 1 << 20
MAX_CHUNK_BYTES = 1 << 18
SOURCE = "source"
SINK = "sink"
"""The names under which children find the pipes that layers come and go by."""
NEIGHBOUR_ENDED = "pull.neighbour"
"""Reason of a child whose neighbour at a pipe has ended; the neighbour has the real one."""

_LENGTH = struct.Struct(">I")

A = TypeVar("A")


class FileChannel(Protocol):
    """A job's connection to the outside: its pipes, and PID 1, which has the files."""

    @property
    def fds(self) -> Mapping[str, int]:
        """The pipes by name."""

    def ask_for_fds(self, question: object, answer: type[A], /) -> tuple[A, tuple[int, ...]]:
        """Ask for files (`ccinit.pull.messages.tars`), and wait for them."""


def open_pipe(size_bytes: int = PIPE_BYTES, flags: int = 0) -> tuple[int, int]:
    """Return both ends of a pipe of that size, the read end first: it has room for some chunks.

    Raises:
        KernelError: the kernel refused.
    """
    ends: tuple[int, ...] = ()
    try:
        ends = reader, writer = os.pipe2(os.O_CLOEXEC | flags)
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size_bytes)
    except OSError as error:
        close_all(ends)
        raise kernel_error(error, "pipe", "layers") from error
    return reader, writer


def make_buffer(size_bytes: int) -> memoryview:
    """Return page-aligned memory to read into.

    The allocator places large buffers 16 bytes after the start of a page, and copying a page there
    takes AMD's processors (Zen, `rep movsb`) five times as long as to most other offsets.

    Raises:
        KernelError: `kernel.mmap`, not enough memory.
    """
    try:
        return memoryview(mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    except OSError as error:
        raise kernel_error(error, "mmap", f"{size_bytes} bytes") from error


class LayerWriter:
    """The write end."""

    def __init__(self, fd: int) -> None:
        """Args: fd: stays the caller's."""
        self._fd = fd

    def write(self, data: bytes | memoryview) -> None:
        """Send the next bytes of the layer.

        Raises:
            ChildError: `pull.neighbour`, the reader is gone.
            LimitExceededError: `pull.enospc`.
        """
        view = memoryview(data)
        for start in range(0, len(view), MAX_CHUNK_BYTES):
            chunk = view[start : start + MAX_CHUNK_BYTES]
            self._send(_LENGTH.pack(len(chunk)), chunk)

    def end_layer(self) -> None:
        """Mark the end of the layer; raises as `write`."""
        self._send(_LENGTH.pack(0))

    def _send(self, *parts: bytes | memoryview) -> None:
        """Write all parts, in one call if they fit: each write wakes the reader."""
        views = [memoryview(part) for part in parts]
        try:
            while views:
                sent = os.writev(self._fd, views)
                while views and sent >= len(views[0]):
                    sent -= len(views.pop(0))
                if views:
                    views[0] = views[0][sent:]
        except BrokenPipeError as error:
            raise ChildError(NEIGHBOUR_ENDED, "nobody reads the layers") from error
        except OSError as error:
            raise write_error(error, "write", "layers") from error


class LayerReader:
    """The read end; its memory is bounded by one chunk."""

    def __init__(self, fd: int) -> None:
        """Args: fd: stays the caller's."""
        self._fd = fd
        self._buffer = make_buffer(MAX_CHUNK_BYTES)
        self._length = memoryview(bytearray(_LENGTH.size))

    def chunks(self) -> Iterator[memoryview]:
        """Yield what comes of one layer, each piece valid until the next, up to its end.

        Raises:
            ChildError: `pull.neighbour`, the writer has ended before the layer; `pull.stream`, it
                broke the format.
        """
        while length := self._read_length():
            if length > MAX_CHUNK_BYTES:
                raise ChildError("pull.stream", f"a chunk of {length} bytes")
            chunk = self._buffer[:length]
            self._fill(chunk)
            yield chunk

    def _read_length(self) -> int:
        self._fill(self._length)
        return int(_LENGTH.unpack(self._length)[0])

    def _fill(self, target: memoryview) -> None:
        while target:
            try:
                received = os.readv(self._fd, (target,))
            except OSError as error:
                raise kernel_error(error, "read", "layers") from error
            if not received:
                raise ChildError(NEIGHBOUR_ENDED, "the layers end before their time")
            target = target[received:]
