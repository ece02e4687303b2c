"""Read the kernel log as /dev/kmsg delivers it: one record for each read(2).

Format of records: Documentation/ABI/testing/dev-kmsg. Records are passed on as they are; `seal`
seals them. EPIPE means that records were overwritten before they were read; the gap in the sequence
numbers shows how many.
"""

import os

from ccinit.errors import FormatError
from ccinit.kernel.event_loop import readable
from ccinit.kernel.libc import kernel_error, open_path
from ccinit.values import frozen

DEVICE = "/dev/kmsg"
_MAX_DIGITS = 20  # of a u64
RECORD_LIMIT_BYTES = 8192  # room for PRINTKRB_RECORD_MAX and the longest header


@frozen
class KernelRecord:
    """One line of the kernel log.

    Attributes:
        priority: syslog severity, 0 (emergency) to 7 (debug).
        sequence: the record's number since boot.
        boottime_us: when it was written, in microseconds since boot.
        text: the message and its dictionary lines, as escaped by the kernel.
        dropped: number of records lost between the one before and this one.
    """

    priority: int
    sequence: int
    boottime_us: int
    text: bytes
    dropped: int


def parse_record(data: bytes, expected_sequence: int) -> KernelRecord:
    """Parse one record.

    Raises:
        FormatError: `kmsg.record`.
    """
    header, separator, text = data.partition(b";")
    numbers = header.split(b",")[:3]
    if not separator or len(numbers) != 3 or not all(map(_is_number, numbers)):
        raise FormatError("kmsg.record", f"{data[:40]!r} has no header")
    priority, sequence, microseconds = map(int, numbers)
    return KernelRecord(
        priority=priority & 7,
        sequence=sequence,
        boottime_us=microseconds,
        text=text.rstrip(b"\n"),
        dropped=max(0, sequence - expected_sequence),
    )


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= _MAX_DIGITS


class KernelLog:
    """The reading end of the kernel log; starts with the oldest record kept."""

    def __init__(self, path: str = DEVICE) -> None:
        self._fd = open_path(path, os.O_RDONLY | os.O_NONBLOCK)
        self._expected_sequence = 0

    def close(self) -> None:
        """Close the device."""
        os.close(self._fd)

    def read(self) -> KernelRecord | None:
        """Return the next record, or None if there is none yet.

        Raises:
            KernelError: the device cannot be read.
        """
        while True:
            try:
                data = os.read(self._fd, RECORD_LIMIT_BYTES)
            except BlockingIOError:
                return None
            except BrokenPipeError:
                continue  # overwritten; the next record's number shows how many
            except OSError as error:
                raise kernel_error(error, "read", DEVICE) from error
            record = parse_record(data, self._expected_sequence)
            self._expected_sequence = record.sequence + 1
            return record

    async def next(self) -> KernelRecord:
        """Wait for the next record."""
        while (record := self.read()) is None:
            await readable(self._fd)
        return record
