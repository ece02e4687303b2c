"""Undo a layer's compression as a stream: gzip (RFC 1952), zstd (RFC 8878), or none.

gzip may have many members and zstd many frames, including skippable ones, as pigz, eStargz and
zstd:chunked write them. Anything else after the last one is refused. Output is bounded in bytes and
in its ratio to the input, and zstd's window in memory; a step never produces more than a chunk. The
digests of input and output are checked elsewhere (`pull.blob`, `verify`).
"""

from collections.abc import Callable, Iterable, Iterator

import zstandard
from isal import igzip_lib

from ccinit.annotations import assert_never
from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.oci.compression import Compression
from ccinit.pull.layers.stream import make_buffer

Chunk = bytes | memoryview
Sink = Callable[[Chunk], None]
"""Takes a piece of output, which is valid until it returns."""

_CHUNK_BYTES = 1 << 18
_FIRST_BYTES, _GROWTH = 1 << 14, 16
"""How much input a member is given first, and by which factor that grows each time."""
_SENT_BYTES = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_FIXED_BYTES = 10
_GZIP_CHECKSUM, _GZIP_EXTRA, _GZIP_RESERVED = 0x02, 0x04, 0xE0
_GZIP_TEXTS = (0x08, 0x10)
"""Flags of name and comment, in this order."""
_MAX_GZIP_HEADER_BYTES = 1 << 17
"""The extra field has up to 64 KiB; name and comment are as long as paths."""
_SHORT_GZIP_HEADER_BYTES = 512
"""Searched first, because a layer may have a member for each of its files."""
_MAX_WINDOW_BYTES = 16 << 20
"""All levels up to 19 stay within this; RFC 8878 asks readers to support 8 MiB.

With more, the packer of a layer would decide over the guest's memory.
"""
_MAX_RATIO = 1100
"""DEFLATE cannot exceed 1032:1; zstd can, but only for a decompression bomb."""
_RATIO_FREE_BYTES = 64 << 20


def decompress(
    chunks: Iterable[Chunk], compression: Compression, sink: Sink, *, max_bytes: int
) -> int:
    """Undo the compression of a stream; return how many bytes came out.

    Args:
        chunks: of one layer, each valid until the next.
        compression: how it is compressed.
        sink: takes the output.
        max_bytes: cap on the output.

    Raises:
        FormatError: `pull.gzip`, `pull.zstd`.
        LimitExceededError: `pull.layer_bytes`, `pull.ratio`.
    """
    output = _BoundedOutput(sink, max_bytes)
    counted = output.count(chunks)
    match compression:
        case Compression.NONE:
            for chunk in counted:
                output.send(chunk)
        case Compression.GZIP:
            _undo_gzip(counted, output)
        case Compression.ZSTD:
            _undo_zstd(counted, output)
        case _:
            assert_never(compression)
    return output.sent_bytes


class _BoundedOutput:
    def __init__(self, sink: Sink, max_bytes: int) -> None:
        self._sink = sink
        self._max_bytes = max_bytes
        self.sent_bytes = 0
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._input_bytes = 0

    def count(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Pass the input on, counting it to bound the ratio."""
        for chunk in chunks:
            self._input_bytes += len(chunk)
            yield chunk

    def write(self, data: bytes) -> None:
        """Take output of a member.

        A layer may have a member for each of its files, and each write wakes the next child, so
        small pieces are gathered.
        """
        self._pieces.append(data)
        self._pieces_bytes += len(data)
        if self._pieces_bytes >= _SENT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered."""
        if self._pieces_bytes:
            self.send(b"".join(self._pieces))
        self._pieces.clear()
        self._pieces_bytes = 0

    def send(self, data: Chunk) -> None:
        self.sent_bytes += len(data)
        if self.sent_bytes > self._max_bytes:
            raise LimitExceededError("pull.layer_bytes", f"more than {self._max_bytes}")
        if self.sent_bytes > _RATIO_FREE_BYTES and self.sent_bytes > _MAX_RATIO * self._input_bytes:
            raise LimitExceededError("pull.ratio", f"more than {_MAX_RATIO}:1")
        self._sink(data)


def _undo_gzip(chunks: Iterable[Chunk], output: _BoundedOutput) -> None:
    members = _GzipMembers(output)
    for chunk in chunks:
        members.feed(chunk)
    members.finish()


class _GzipMembers:
    def __init__(self, output: _BoundedOutput) -> None:
        self._output = output
        self._member = _gzip_member()
        self._rest = b""  # of an incomplete header
        self._has_begun = False
        self._piece_bytes = _FIRST_BYTES

    def feed(self, data: Chunk) -> None:
        view = memoryview(self._rest + data if self._rest else data)
        self._rest = b""
        position = 0
        while position < len(view):
            if not self._has_begun:
                header_bytes = _measure_gzip_header(view[position:])
                if not header_bytes:
                    self._rest = bytes(view[position:])
                    break
                self._has_begun = True
                # ISA-L loses track of optional header fields if a piece ends within a header.
                self._piece_bytes = max(_FIRST_BYTES, header_bytes)
            position = self._inflate(view, position)
        self._output.flush()

    def finish(self) -> None:
        if self._has_begun or self._rest:
            raise FormatError("pull.gzip", "the stream ends within a member")

    def _inflate(self, data: memoryview, position: int) -> int:
        """Inflate the member's part of `data`; return the position after it.

        Input that belongs to later members is copied, so a member gets little input at first.
        """
        while position < len(data):
            piece = data[position : position + self._piece_bytes]
            self._piece_bytes = min(self._piece_bytes * _GROWTH, _CHUNK_BYTES)
            position += len(piece)
            self._decompress(piece)
            if self._member.eof:
                position -= len(self._member.unused_data)
                self._member = _gzip_member()
                self._has_begun = False
                break
        return position

    def _decompress(self, piece: Chunk) -> None:
        while True:
            try:
                chunk = self._member.decompress(piece, _CHUNK_BYTES)
            except igzip_lib.IsalError as error:  # type: ignore[misc]  # the stub is wrong
                raise FormatError("pull.gzip", f"malformed: {error}") from error
            if chunk:
                self._output.write(chunk)
            if self._member.eof or self._member.needs_input:
                return
            piece = b""  # the decompressor keeps unused input


def _measure_gzip_header(data: memoryview) -> int:
    """Return the size of a member's header (RFC 1952 section 2.3), 0 if it is incomplete.

    Raises:
        FormatError: `pull.gzip`.
        LimitExceededError: `pull.gzip`.
    """
    magic = bytes(data[: len(_GZIP_MAGIC)])
    if not _GZIP_MAGIC.startswith(magic):
        raise FormatError("pull.gzip", "bytes that are not a gzip member")
    for window in (_SHORT_GZIP_HEADER_BYTES, _MAX_GZIP_HEADER_BYTES):
        head = bytes(data[:window])
        size = _gzip_header_end(head)
        if size <= len(head):
            return size
    if len(data) >= _MAX_GZIP_HEADER_BYTES:
        raise LimitExceededError("pull.gzip", f"a header over {_MAX_GZIP_HEADER_BYTES} bytes")
    return 0


def _gzip_header_end(head: bytes) -> int:
    """Return where the header ends; beyond `head` if it is incomplete, even if by one byte."""
    if len(head) < _GZIP_FIXED_BYTES:
        return _GZIP_FIXED_BYTES
    flags, end = head[3], _GZIP_FIXED_BYTES
    if flags & _GZIP_RESERVED:
        raise FormatError("pull.gzip", f"unknown flags {flags:#04x}")
    if flags & _GZIP_EXTRA:
        end += 2 + int.from_bytes(head[end : end + 2], "little")
    for text in _GZIP_TEXTS:
        if flags & text:
            end = head.find(b"\0", end) + 1 or len(head) + 1
    return end + 2 if flags & _GZIP_CHECKSUM else end


def _gzip_member() -> igzip_lib.IgzipDecompressor:
    """Return a decompressor for one member, which also checks its CRC and length."""
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


class _ChunkFile:
    """Chunks as the file that libzstd's binding reads from."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = filter(len, chunks)

    def read(self, _size: int) -> Chunk:
        """Return the next one; nothing is the end."""
        return next(self._chunks, b"")


def _undo_zstd(chunks: Iterable[Chunk], output: _BoundedOutput) -> None:
    """Have libzstd decompress frame after frame; it refuses anything that is not a frame.

    It does not report a truncated last frame. But then the tar lacks bytes, and the diff_id cannot
    match, unless no more than a magic number has come, which lacks no output.

    All output goes through one reused buffer: as `bytes` it would be copied once more.
    """
    frames = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).stream_reader(
        _ChunkFile(chunks),  # type: ignore[arg-type]  # only its `read` is called
        read_across_frames=True,
    )
    buffer = make_buffer(_CHUNK_BYTES)
    try:
        while length := frames.readinto(buffer):
            output.send(buffer[:length])
    except zstandard.ZstdError as error:
        raise FormatError("pull.zstd", f"malformed: {error}") from error
