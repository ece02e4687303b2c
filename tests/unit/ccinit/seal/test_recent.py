"""The owner plane's window on the last entries."""

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ccinit.formats.sealed_log import Kind
from ccinit.seal.recent import RecentEntries

ALL = 1 << 20
OVERHEAD = 256
SOURCES = ("web", "db", "ccinit")
WRITTEN = some.lists(
    some.tuples(
        some.sampled_from((Kind.STDOUT, Kind.STDERR, Kind.EVENT)),
        some.sampled_from(SOURCES),
        some.integers(0, 700),
    ),
    max_size=60,
)


def append(
    recent: RecentEntries, data: bytes = b"x", *, kind: Kind = Kind.EVENT, source: str = ""
) -> None:
    recent.append(0, kind, source, data)


def sequences(recent: RecentEntries) -> list[int]:
    return [found.sequence for found in recent.since(0, ALL)]


def test_recent_gives_entries_from_a_number_on() -> None:
    recent = RecentEntries(4096)
    for _ in range(5):
        append(recent)
    assert [found.sequence for found in recent.since(2, ALL)] == [2, 3, 4]
    for beyond in (5, 2**63, 2**64 - 1):  # whatever a client's u64 may say
        assert recent.since(beyond, ALL) == ()


@pytest.mark.parametrize(
    ("max_bytes", "count"), [(0, 1), (356, 1), (711, 1), (712, 2), (1068, 3), (ALL, 4)]
)
def test_recent_gives_one_entry_and_what_fits_with_it(max_bytes: int, count: int) -> None:
    recent = RecentEntries(4096)
    for _ in range(4):
        append(recent, bytes(100))  # and 256 for each
    assert len(recent.since(0, max_bytes)) == count


def test_recent_without_entries_gives_none() -> None:
    assert RecentEntries(4096).since(0, ALL) == ()


def test_recent_full_forgets_the_oldest() -> None:
    recent = RecentEntries(1024)
    for _ in range(4):
        append(recent, bytes(100))
    assert [found.sequence for found in recent.since(0, ALL)] == [2, 3]


def test_recent_entry_larger_than_everything_is_not_kept() -> None:
    recent = RecentEntries(1024)
    append(recent, bytes(2000))
    assert recent.since(0, ALL) == ()
    append(recent)
    assert [found.sequence for found in recent.since(0, ALL)] == [1]


def test_flood_pushes_out_the_flooders_own_lines_only() -> None:
    recent = RecentEntries(64 * OVERHEAD)
    append(recent, b"", kind=Kind.EVENT, source="ccinit")
    append(recent, b"", kind=Kind.STDOUT, source="db")
    append(recent, b"", kind=Kind.STDERR, source="web")
    for _ in range(10_000):
        append(recent, b"", kind=Kind.STDOUT, source="web")
    assert sequences(recent) == [0, 1, 2, *range(10_003 - 61, 10_003)]
    # who writes little for long has the same right to the place as who floods
    for _ in range(100):
        append(recent, b"", kind=Kind.STDOUT, source="db")
    kept = recent.since(0, ALL)
    assert [one.sequence for one in kept[:2]] == [0, 2]
    assert sum(one.source == "db" for one in kept) == 31


def test_place_of_who_is_silent_again_is_not_lost() -> None:
    recent = RecentEntries(4 * OVERHEAD)
    for sequence in range(1000):  # as many sources as entries
        append(recent, b"", source=f"s{sequence}")
    assert len(sequences(recent)) == 4
    assert len(recent._shares) == 4


@given(WRITTEN, some.integers(1, 4000))
def test_every_share_keeps_its_newest_and_its_part_of_the_whole(
    written: list[tuple[Kind, str, int]], capacity: int
) -> None:
    recent = RecentEntries(capacity)
    for kind, source, size in written:
        append(recent, bytes(size), kind=kind, source=source)
    kept = recent.since(0, ALL)
    assert sum(len(one.data) + OVERHEAD for one in kept) <= capacity
    assert [one.sequence for one in kept] == sorted({one.sequence for one in kept})
    numbered = sorted(enumerate(written), key=lambda one: one[1][:2])
    for share, group in groupby(numbered, key=lambda one: one[1][:2]):
        sizes = {sequence: size + OVERHEAD for sequence, (_, _, size) in group}
        mine = [one.sequence for one in kept if (one.kind, one.source) == share]
        assert mine == sorted(sizes)[len(sizes) - len(mine) :]
        if len(mine) < len(sizes):  # with the last one that was forgotten it had more than its part
            forgotten = sorted(sizes)[len(sizes) - len(mine) - 1]
            had = sum(sizes[one] for one in (forgotten, *mine))
            assert had * len({one[:2] for one in written}) > capacity


@given(WRITTEN, some.integers(0, 70))
def test_number_finds_its_place_among_gaps(
    written: list[tuple[Kind, str, int]], since: int
) -> None:
    recent = RecentEntries(2000)
    for kind, source, size in written:
        append(recent, bytes(size), kind=kind, source=source)
    kept = recent.since(0, ALL)
    assert recent.since(since, ALL) == tuple(one for one in kept if one.sequence >= since)
    assert recent.following == len(written)
