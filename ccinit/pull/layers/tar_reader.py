"""A streaming tar reader, fed in pieces.

It buffers no more than a header: content is skipped or passed on. Only zeros may follow the last
entry, so that no other reader finds another archive there. `formats.oci.tar_entry` reads single
entries; the caller decides what they mean together.
"""

from collections.abc import Callable

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.oci.tar_entry import EXTENSION_TYPES, MAX_LONG_NAME_BYTES, HeaderGroup, TarEntry
from ccinit.formats.oci.tar_header import BLOCK_BYTES, ZERO_BLOCK, TarHeader, padded, parse_header
from ccinit.formats.oci.tar_pax import MAX_PAX_BYTES

_EXTENSION_LIMITS = {
    b"x": MAX_PAX_BYTES,
    b"g": MAX_PAX_BYTES,
    b"L": MAX_LONG_NAME_BYTES,
    b"K": MAX_LONG_NAME_BYTES,
}


class TarReader:
    """Reads one archive.

    Attributes:
        file_bytes: total size of the files so far.
    """

    def __init__(
        self,
        take: Callable[[TarEntry], None],
        take_content: Callable[[memoryview], None] | None = None,
    ) -> None:
        """Start.

        Args:
            take: gets each entry once its header is complete, maybe before its content.
            take_content: gets the content in pieces, each valid until it returns.
        """
        self.file_bytes = 0
        self._take_entry = take
        self._take_content = take_content
        self._content = 0  # bytes to come of the entry's content
        self._group = HeaderGroup()
        self._extension: TarHeader | None = None  # whose payload comes next
        self._part = bytearray()  # of a header, or of an extension's payload
        self._wanted = BLOCK_BYTES  # the length of that when it is whole
        self._skip = 0  # bytes to pass over before it
        self._offset = 0  # of the next header or payload in the archive
        self._has_ended = False

    def feed(self, data: memoryview) -> None:
        """Take the next bytes of the archive.

        Raises:
            FormatError: `tar.…`.
            LimitExceededError: `tar.extension`, and what `take` raises.
        """
        start, length = 0, len(data)
        while start < length and not self._has_ended:
            if self._skip:
                step = min(self._skip, length - start)
                if self._take_content is not None:
                    self._pass_content(data[start : start + step], self._take_content)
                self._skip -= step
                start += step
                continue
            if not self._part and length - start >= self._wanted:  # nearly always
                part = bytes(data[start : start + self._wanted])
                start += self._wanted
                self._take(part)
                continue
            piece = data[start : start + self._wanted - len(self._part)]
            start += len(piece)
            self._part += piece
            if len(self._part) == self._wanted:
                part = bytes(self._part)
                self._part.clear()
                self._take(part)
        if self._has_ended and bytes(data[start:]).count(0) != length - start:
            raise FormatError("tar.trailing", "bytes behind the end of the archive")

    def leap(self) -> int:
        """Skip the content that comes next; return its size, which the caller must not feed."""
        skip, self._skip = self._skip, 0
        return skip

    def finish(self) -> int:
        """Mark the end of the archive; return the offset after its last entry.

        Raises:
            FormatError: `tar.truncated`.
        """
        if self._skip or self._part or self._extension is not None:
            raise FormatError("tar.truncated", "an entry reaches beyond the archive")
        if self._group.is_open:
            raise FormatError("tar.truncated", "an extended header without its entry")
        return self._offset

    def _take(self, part: bytes) -> None:
        if self._extension is not None:
            header, self._extension = self._extension, None
            self._take_extension(header, part)
        elif part == ZERO_BLOCK:
            self._has_ended = True
        else:
            self._take_header(parse_header(part))

    def _take_header(self, header: TarHeader) -> None:
        self._offset += BLOCK_BYTES
        if header.type_flag not in EXTENSION_TYPES:
            entry = self._group.entry(header, self._offset)
            self._take_entry(entry)
            self.file_bytes += entry.size
            self._content = entry.size
            self._pass_over(entry.size, 0)
            return
        limit = _EXTENSION_LIMITS[header.type_flag]
        if header.size > limit:
            raise LimitExceededError(
                "tar.extension", f"expected at most {limit} bytes, found {header.size}"
            )
        if not header.size:
            self._take_extension(header, b"")
            return
        self._extension, self._wanted = header, header.size

    def _take_extension(self, header: TarHeader, payload: bytes) -> None:
        self._group.extend(header, payload)
        self._pass_over(header.size, len(payload))

    def _pass_content(self, data: memoryview, take: Callable[[memoryview], None]) -> None:
        """Pass on the part of `data` that is content, without the padding of its last block."""
        if self._content:
            piece = data[: self._content]
            self._content -= len(piece)
            take(piece)

    def _pass_over(self, size: int, taken: int) -> None:
        """Skip to the header after a payload of `size` bytes, of which some were taken."""
        self._offset += padded(size)
        self._skip = padded(size) - taken
        self._wanted = BLOCK_BYTES
