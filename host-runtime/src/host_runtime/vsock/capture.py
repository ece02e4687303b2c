"""A record of every byte that crosses the vsock device, both ways: one of the host's sinks.

Each record is a little-endian head (connection number u32, stream u8, length u32) and the bytes.
`read_capture` reassembles the streams; otherwise a text split over two packets, with another
connection's packet in between, would not be found. `host_runtime.host_view.search` searches.

On a full disk the capture ends while the guest's vsock goes on. The file is then called
`….incomplete`, so that nobody takes it for all that the host saw.
"""

import logging
import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Self

from ccinit.errors import FormatError
from measured_boot.command_line.errors import describe_error

_HEAD = struct.Struct("<IBI")

_log = logging.getLogger(__name__)


class Stream(IntEnum):
    """What a record holds. Headers count too: a guest can hide bits in ports and counters."""

    GUEST_HEADER = 0
    GUEST_PAYLOAD = 1
    HOST_PAYLOAD = 2


class CaptureWriter:
    """Appends records to a file; without a path it records nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = None if path is None else path.open("ab", buffering=0)
        self._waiting = bytearray()

    def write(self, number: int, stream: Stream, data: bytes) -> None:
        """Append `data`, which belongs to connection `number` (0: to none)."""
        if self._file is not None and data:
            self._waiting += _HEAD.pack(number, stream, len(data))
            self._waiting += data

    def flush(self) -> None:
        """Hand what was written to the kernel, so that nothing is lost if the device is killed."""
        if self._file is None:
            return
        try:
            while self._waiting:
                written = self._file.write(self._waiting)
                del self._waiting[:written]
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        _log.error("the capture ends here: %s", describe_error(error))
        self._close()
        self._waiting.clear()
        if self._path is not None:
            self._path.rename(incomplete_path(self._path))

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        self._close()


def incomplete_path(path: Path) -> Path:
    """Return the name of a capture that could not be written to its end."""
    return path.with_name(f"{path.name}.incomplete")


def read_records(file: BinaryIO) -> Iterator[tuple[int, Stream, bytes]]:
    """Yield a capture's records, one in memory at a time: connection, stream, bytes.

    Raises:
        FormatError: `capture.stream`: no such stream, so these bytes are no capture.
    """
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        number, kind, length = _HEAD.unpack(head)
        if kind not in Stream.__members__.values():
            raise FormatError("capture.stream", f"stream {kind} before offset {file.tell()}")
        yield number, Stream(kind), file.read(length)


def open_capture(path: Path) -> BinaryIO:
    """Open the capture at `path`.

    Raises:
        FormatError: `capture.incomplete`.
    """
    if incomplete_path(path).exists():
        raise FormatError("capture.incomplete", f"{path} could not be written to its end")
    return path.open("rb")


def read_capture(path: Path) -> Mapping[tuple[int, Stream], bytes]:
    """Return each connection's whole streams; a truncated last record (killed device) counts.

    Raises:
        FormatError: `capture.incomplete`; `capture.stream`: the file is no capture.
    """
    streams: dict[tuple[int, Stream], bytearray] = {}
    with open_capture(path) as file:
        for number, stream, content in read_records(file):
            streams.setdefault((number, stream), bytearray()).extend(content)
    return {key: bytes(content) for key, content in streams.items()}
