"""The owner plane's window on the last entries."""

from ccinit.formats.sealed_log import Kind
from ccinit.seal.recent import Entry, RecentEntries


def entry(sequence: int, data: bytes = b"x") -> Entry:
    return Entry(sequence=sequence, boottime_us=0, kind=Kind.EVENT, source="", data=data)


def test_recent_gives_entries_from_a_number_on() -> None:
    recent = RecentEntries(4096)
    for sequence in range(5):
        recent.append(entry(sequence))
    assert [found.sequence for found in recent.since(2, 2)] == [2, 3]
    assert recent.since(5, 2) == ()
    recent.clear()
    assert recent.since(0, 9) == ()


def test_recent_full_forgets_the_oldest() -> None:
    recent = RecentEntries(1024)
    for sequence in range(4):
        recent.append(entry(sequence, bytes(100)))
    assert [found.sequence for found in recent.since(0, 9)] == [2, 3]


def test_recent_entry_larger_than_everything_is_not_kept() -> None:
    recent = RecentEntries(1024)
    recent.append(entry(0, bytes(2000)))
    assert recent.since(0, 9) == ()
    recent.append(entry(1))
    assert [found.sequence for found in recent.since(0, 9)] == [1]
