"""Entries of the sealed log, reassembled from their records.

This is the part of step 4 of `guest_owner.sealed_log.unseal` about entries longer than a record.
"""

from dataclasses import dataclass

from ccinit.errors import FormatError
from ccinit.formats.sealed_log import MAX_ENTRY_BYTES, Kind, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One entry, reassembled from its records.

    Attributes:
        index: number of the first record.
        is_signed: whether a signature covers all the records.
    """

    index: int
    is_signed: bool
    boottime_us: int
    kind: Kind
    source: str
    dropped: int
    data: bytes


class EntryParts:
    """The one entry that is incomplete; entries never interleave.

    Only the first record is kept, plus the data of all: a compromised guest may split an entry
    into a million records.
    """

    def __init__(self) -> None:
        self._first: Record | None = None
        self._index = 0  # of the first of them
        self._data = bytearray()
        self._left_bytes = 0

    @property
    def is_open(self) -> bool:
        """Whether the entry goes on."""
        return self._first is not None

    def add(self, index: int, record: Record) -> LogEntry | None:
        """Take the next record; return the entry if that completes it.

        Raises:
            FormatError: `unseal.order`.
        """
        if self._first is None:
            self._first, self._index = record, index
            self._data, self._left_bytes = bytearray(), MAX_ENTRY_BYTES
        first = self._first
        if (first.kind, first.source) != (record.kind, record.source):
            raise FormatError("unseal.order", "an entry was not finished")
        self._data += record.data
        self._left_bytes -= len(record.data) or 1  # so that an entry of empty parts ends, too
        if self._left_bytes < 0:
            raise FormatError("unseal.order", "an entry is too long")
        if record.more:
            return None
        self._first = None
        return LogEntry(
            index=self._index,
            is_signed=False,
            boottime_us=first.boottime_us,
            kind=first.kind,
            source=first.source,
            dropped=record.dropped,
            data=bytes(self._data),
        )
