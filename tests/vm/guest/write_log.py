"""What a disk would hold had the power failed, from the log of device-mapper's log-writes.

The log has every write in the order in which flushes made them durable. A cut at one entry keeps
all that was flushed before it and, of what was not, whatever a coin says: a disk with a cache that
it loses. Layout: kernel documentation device-mapper/log-writes.
"""

import random
import struct
from dataclasses import dataclass

from ccinit.kernel.block import SECTOR_BYTES, BlockDevice, read_direct, write_direct

FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
_MAGIC = 0x6A736677736872
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<4Q")
_CHUNK_BYTES = 4 << 20
_PIECE_BYTES = 1 << 20  # of which the disks are whole multiples


@dataclass(frozen=True, slots=True)
class Entry:
    """One write, flush or mark.

    Attributes:
        offset: where on the disk.
        length: bytes of it.
        position: of its content, in the log.
        text: of a mark.
    """

    offset: int
    flags: int
    length: int
    position: int
    text: bytes


def read_log(node: str) -> list[Entry]:
    """Read all entries of a log that is no longer written; their content stays where it is."""
    magic, version, count, sector_bytes = _SUPER.unpack_from(read_direct(node, 0, 4096))
    assert (magic, version, sector_bytes) == (_MAGIC, 1, SECTOR_BYTES)
    log = _Log(node)
    entries = []
    position = SECTOR_BYTES
    for _ in range(count):
        sector, sectors, flags, text_bytes = _ENTRY.unpack_from(log.read(position, SECTOR_BYTES))
        text = log.read(position + _ENTRY.size, text_bytes)
        position += SECTOR_BYTES
        length = 0 if flags & (MARK | DISCARD) else sectors * SECTOR_BYTES
        entries.append(Entry(sector * SECTOR_BYTES, flags, length, position, text))
        position += length
    return entries


class _Log:
    """Reads at any offset, through a window that is read directly."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._start = 0
        self._window = b""

    def read(self, offset: int, length: int) -> bytes:
        end = self._start + len(self._window)
        if not self._start <= offset or offset + length > end:
            self._start = offset - offset % 4096
            needed = -(-(offset + length - self._start) // 4096) * 4096
            self._window = read_direct(self._node, self._start, max(needed, _CHUNK_BYTES))
        return self._window[offset - self._start : offset - self._start + length]


class _Image:
    """What a disk is to hold; in memory is only what differs from its beginning."""

    def __init__(self, disk: BlockDevice, base: BlockDevice | None) -> None:
        self._disk, self._base = disk, base
        self._changed: dict[int, bytearray] = {}

    def change(self, offset: int, data: bytes) -> None:
        while data:
            start = offset - offset % _PIECE_BYTES
            if start not in self._changed:
                self._changed[start] = bytearray(self._read(start))
            piece = self._changed[start]
            part = data[: start + _PIECE_BYTES - offset]
            piece[offset - start : offset - start + len(part)] = part
            offset, data = offset + len(part), data[len(part) :]

    def write(self) -> None:
        for start in range(0, self._disk.size_bytes, _PIECE_BYTES):
            piece = self._changed.get(start)
            write_direct(self._disk.node, start, bytes(piece or self._read(start)))

    def _read(self, start: int) -> bytes:
        if self._base is None or start >= self._base.size_bytes:
            return bytes(_PIECE_BYTES)
        return read_direct(self._base.node, start, _PIECE_BYTES)


def write_cut(
    disk: BlockDevice,
    log_node: str,
    entries: list[Entry],
    choose: random.Random,
    *,
    base: BlockDevice | None = None,
    is_honest: bool = True,
) -> None:
    """Make the disk what it is after a power failure behind `entries`.

    Before the first of them it began like `base`, and was zero behind that. A disk that is not
    honest keeps nothing it was told to.
    """
    log = _Log(log_node)
    flushed = max((index for index, one in enumerate(entries) if one.flags & FLUSH), default=0)
    image = _Image(disk, base)
    for index, one in enumerate(entries):
        is_durable = is_honest and (index < flushed or one.flags & FUA)
        if is_durable or choose.random() < 0.5:
            image.change(one.offset, log.read(one.position, one.length))
    image.write()


def last_mark(entries: list[Entry]) -> int:
    """The number in the last mark, 0 without any; the kernel's own mark of the end has none."""
    texts = [one.text.rstrip(b"\0") for one in entries if one.flags & MARK]
    return int(next((text for text in reversed(texts) if text.isdigit()), b"0"))
