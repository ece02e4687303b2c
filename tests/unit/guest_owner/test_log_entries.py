"""Entries of many records, and what ends them."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.sealed_log import MAX_ENTRY_BYTES, Kind, Record
from guest_owner.log_entries import EntryParts


def part(data: bytes) -> Record:
    return Record(boottime_us=1, kind=Kind.EVENT, source="", dropped=0, data=data, more=True)


def test_entry_of_empty_parts_ends() -> None:
    parts, empty = EntryParts(), part(b"")
    for index in range(MAX_ENTRY_BYTES):
        assert parts.add(index, empty) is None
    with pytest.raises(FormatError) as error:
        parts.add(MAX_ENTRY_BYTES, empty)
    assert error.value.reason == "unseal.order"
