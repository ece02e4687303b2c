"""A tar that one child appends to a file, and the next one reads while it grows.

    word = length u32, big-endian: how many bytes were added (1 … 256 KiB); 0 ends the layer

The words come through a packet pipe (pipe(2), O_DIRECT), the bytes through the file (`tar_files`),
while it is still in the page cache. So each byte is copied twice between the decompressor and the
hash, instead of four times through a pipe. A word only says when to read, and is not trusted: bytes
that are not there count as missing.
"""

import mmap
import os
import struct
from collections.abc import Iterator

from ccinit.errors import ChildError
from ccinit.kernel.libc import kernel_error
from ccinit.pull.layers.file import write_all
from ccinit.pull.layers.stream import NEIGHBOUR_ENDED, make_buffer, open_pipe

MAX_PIECE_BYTES = 1 << 18
WORDS_AHEAD = 64
"""So at most 16 MiB: data that waits longer would be written to the disk before it is read."""

_WORD = struct.Struct(">I")


def open_word_pipe() -> tuple[int, int]:
    """Return both ends of a pipe for words, the read end first.

    Raises:
        KernelError: the kernel refused.
    """
    # Each packet takes a page, however short it is.
    return open_pipe(WORDS_AHEAD * mmap.PAGESIZE, os.O_DIRECT)


class TarAppender:
    """The writer."""

    def __init__(self, words: int) -> None:
        """Args: words: the pipe, which stays the caller's."""
        self._words = words

    def append(self, tar: int, data: bytes | memoryview) -> None:
        """Add the next bytes of a layer's tar to its file.

        Raises:
            ChildError: `pull.neighbour`, nobody reads any more.
            LimitExceededError: `pull.enospc`.
            KernelError: the kernel refused.
        """
        view = memoryview(data)
        for start in range(0, len(view), MAX_PIECE_BYTES):
            piece = view[start : start + MAX_PIECE_BYTES]
            write_all(tar, piece, "tar")
            self._say(len(piece))

    def end_layer(self) -> None:
        """Mark the end of the layer; raises as `append`."""
        self._say(0)

    def _say(self, length: int) -> None:
        try:
            os.write(self._words, _WORD.pack(length))
        except BrokenPipeError as error:
            raise ChildError(NEIGHBOUR_ENDED, "nobody reads the tars") from error
        except OSError as error:
            raise kernel_error(error, "write", "words") from error


class TarFollower:
    """The reader; its memory is bounded by one piece."""

    def __init__(self, words: int) -> None:
        """Args: words: the pipe, which stays the caller's."""
        self._words = words
        self._buffer = make_buffer(MAX_PIECE_BYTES)

    def pieces(self, tar: int) -> Iterator[memoryview]:
        """Yield what comes of one layer's tar, each piece valid until the next, up to its end.

        Args:
            tar: open for reading, at its beginning.

        Raises:
            ChildError: `pull.neighbour`, the writer has ended before the layer; `pull.stream`, it
                broke the format.
            KernelError: the kernel refused.
        """
        while length := self._next_word():
            if length > MAX_PIECE_BYTES:
                raise ChildError("pull.stream", f"a piece of {length} bytes")
            piece = self._buffer[:length]
            _read_all(tar, piece)
            yield piece

    def _next_word(self) -> int:
        try:
            word = os.read(self._words, _WORD.size)
        except OSError as error:
            raise kernel_error(error, "read", "words") from error
        if not word:
            raise ChildError(NEIGHBOUR_ENDED, "the layers end before their time")
        if len(word) != _WORD.size:
            raise ChildError("pull.stream", f"a word of {len(word)} bytes")
        return int(_WORD.unpack(word)[0])


def _read_all(tar: int, target: memoryview) -> None:
    while target:
        try:
            received = os.readv(tar, (target,))
        except OSError as error:
            raise kernel_error(error, "read", "tar") from error
        if not received:
            raise ChildError("pull.stream", "a tar that is shorter than was said")
        target = target[received:]
