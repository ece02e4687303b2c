"""A record of every byte that crosses the vsock device, both ways: one of the host's sinks.

Each record is a little-endian head (connection number u32, stream u8, length u32) and the bytes.
Streams are put together again by `read_capture`, because text split over two packets, with another
connection's packet between, would else not be found. Searching is `host_runtime.search`'s business.
"""

import struct
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from ccinit.errors import FormatError

_HEAD = struct.Struct("<IBI")


class Stream(IntEnum):
    """What a record holds. Headers count too: a guest can hide bits in ports and counters."""

    GUEST_HEADER = 0
    GUEST_PAYLOAD = 1
    HOST_PAYLOAD = 2


class CaptureWriter:
    """Appends records to a file; without a path it records nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else path.open("ab")
        self._is_dirty = False

    def write(self, number: int, stream: Stream, data: bytes) -> None:
        """Append `data`, which belongs to connection `number` (0: to none)."""
        if self._file is not None and data:
            self._file.write(_HEAD.pack(number, stream, len(data)) + data)
            self._is_dirty = True

    def flush(self) -> None:
        """Hand what was written to the kernel, so that a killed device loses nothing."""
        if self._file is not None and self._is_dirty:
            self._file.flush()
            self._is_dirty = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()


def parse_capture(data: bytes) -> Mapping[tuple[int, Stream], bytes]:
    """Return each connection's streams, whole. A cut last record (killed device) counts too.

    Raises:
        FormatError: `capture.stream`: no such stream, so these bytes are no capture.
    """
    streams: dict[tuple[int, Stream], bytearray] = {}
    offset = 0
    while offset + _HEAD.size <= len(data):
        number, kind, length = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size
        if kind not in Stream.__members__.values():
            raise FormatError("capture.stream", f"stream {kind} before offset {offset}")
        key = (number, Stream(kind))
        streams.setdefault(key, bytearray()).extend(data[offset : offset + length])
        offset += length
    return {key: bytes(content) for key, content in streams.items()}


def read_capture(path: Path) -> Mapping[tuple[int, Stream], bytes]:
    """Return the streams of the capture at `path`."""
    return parse_capture(path.read_bytes())
