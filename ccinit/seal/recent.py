"""Recent entries in clear, for the owner plane's `logs` and `events`; in guest memory only.

Scope: a bounded store with a cursor that counts entries. The entries of one source and kind (a
container's standard output, the guest's events, …) form a share. When the store is full, the
largest share loses its oldest entry: a source that writes without pause evicts its own lines, and a
share of no more than its fair part loses nothing.

Left to others: who may read it (`ccinit.agent`), and what leaves the guest (`ccinit.seal.stream`).
"""

from bisect import bisect_left
from collections import deque
from itertools import islice
from operator import attrgetter

from ccinit.annotations import Final
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.event_loop import Event
from ccinit.values import frozen

_ENTRY_OVERHEAD: Final = 256  # Python objects around the data: a million empty lines are not free
_SEQUENCE, _HELD_BYTES = attrgetter("sequence"), attrgetter("held_bytes")


@frozen
class Entry:
    """One logged entry; `sequence` counts from 0 without gaps."""

    sequence: int
    boottime_us: int
    kind: Kind
    source: str
    data: bytes


class _Share:
    """The entries of one kind and source, oldest first, and the bytes that they count for."""

    __slots__ = ("entries", "held_bytes", "key")

    def __init__(self, key: tuple[Kind, str]) -> None:
        self.key: Final = key
        self.entries: Final[deque[Entry]] = deque()
        self.held_bytes = 0


class RecentEntries:
    """The newest entries of each share; all of their data fit into `capacity` bytes.

    Attributes:
        changed: set with every entry; a follower clears it before waiting.
        following: the number of the next entry.
    """

    def __init__(self, capacity: int) -> None:
        """Args: capacity: bytes of data and of a fixed allowance per entry."""
        self.changed: Final = Event()
        self.following = 0
        self._capacity = capacity
        self._entries: Final[deque[Entry]] = deque()  # in order; bounded by the allowance per entry
        self._shares: dict[tuple[Kind, str], _Share] = {}
        self._held_bytes = 0

    def append(self, boottime_us: int, kind: Kind, source: str, data: bytes) -> None:
        """Keep an entry, and drop the oldest entries of the largest share until all fits."""
        entry = Entry(
            sequence=self.following, boottime_us=boottime_us, kind=kind, source=source, data=data
        )
        self.following += 1
        self._entries.append(entry)
        key = (kind, source)
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = _Share(key)
        share.entries.append(entry)
        counted_bytes = _count_bytes(entry)
        share.held_bytes += counted_bytes
        self._held_bytes += counted_bytes
        while self._held_bytes > self._capacity:
            self._forget_one()
        self.changed.set()

    def _forget_one(self) -> None:
        share = max(self._shares.values(), key=_HELD_BYTES)
        gone = share.entries.popleft()
        if gone is self._entries[0]:  # the usual case in a flood, and the cheap one
            self._entries.popleft()
        else:
            del self._entries[self._place(gone.sequence)]
        counted_bytes = _count_bytes(gone)
        share.held_bytes -= counted_bytes
        self._held_bytes -= counted_bytes
        if not share.entries:
            del self._shares[share.key]

    def _place(self, sequence: int) -> int:
        return bisect_left(self._entries, sequence, key=_SEQUENCE)

    def since(self, sequence: int, max_bytes: int) -> tuple[Entry, ...]:
        """Return entries from number `sequence` on, oldest first: at least one, and what else fits.

        Args:
            sequence: of the first; if it was dropped, the next one that is kept comes instead.
            max_bytes: of data and of the allowance per entry.
        """
        found: list[Entry] = []
        for entry in islice(self._entries, self._place(sequence), None):
            max_bytes -= _count_bytes(entry)
            if found and max_bytes < 0:
                break
            found.append(entry)
        return tuple(found)


def _count_bytes(entry: Entry) -> int:
    """Return what an entry counts for."""
    return len(entry.data) + _ENTRY_OVERHEAD
