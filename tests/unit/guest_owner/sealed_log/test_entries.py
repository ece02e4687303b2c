"""Entries of many records, and what ends them."""

import tracemalloc

import pytest

from ccinit.errors import FormatError
from ccinit.formats.sealed_log import MAX_ENTRY_BYTES, Kind, Record
from guest_owner.sealed_log.entries import EntryParts


def part(data: bytes, *, more: bool = True) -> Record:
    return Record(boottime_us=1, kind=Kind.EVENT, source="", dropped=0, data=data, more=more)


def test_entries_may_each_have_their_size() -> None:
    """And together any: what is counted for one is not for the next."""
    parts, half = EntryParts(), bytes(MAX_ENTRY_BYTES // 2)
    for first in (1, 3, 5):
        assert parts.add(first, part(half)) is None
        entry = parts.add(first + 1, part(half, more=False))
        assert entry
        assert (entry.index, len(entry.data)) == (first, MAX_ENTRY_BYTES)


def test_entry_of_empty_parts_ends() -> None:
    parts, empty = EntryParts(), part(b"")
    for index in range(MAX_ENTRY_BYTES):
        assert parts.add(index, empty) is None
    with pytest.raises(FormatError) as error:
        parts.add(MAX_ENTRY_BYTES, empty)
    assert error.value.reason == "unseal.order"


def test_entry_of_many_parts_takes_the_memory_of_what_is_in_them() -> None:
    parts, count = EntryParts(), 20_000
    tracemalloc.start()
    try:
        for index in range(count):
            parts.add(index, part(b"x"))
        kept_bytes, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 5 * count
    whole = parts.add(count, part(b"y", more=False))
    assert whole
    assert whole.data == b"x" * count + b"y"
