"""The last records in clear, for the owner plane's `logs` and `events`; memory of the guest only.

Scope: a bounded store that forgets the oldest first, with a cursor that counts entries. Left to
others: who may read it (`ccinit.agent`), and everything that leaves the guest
(`ccinit.seal.stream`).
"""

from collections import deque
from itertools import islice
from typing import Final

from ccinit.formats.sealed_log import Kind
from ccinit.kernel.task import Event
from ccinit.values import frozen

_ENTRY_OVERHEAD: Final = 256  # objects around the data; keeps a million empty lines from being free


@frozen
class Entry:
    """One thing that was logged; `sequence` counts from 0 and never skips."""

    sequence: int
    boottime_us: int
    kind: Kind
    source: str
    data: bytes


class RecentEntries:
    """The newest entries whose data fit into `capacity` bytes.

    Attributes:
        changed: set with every entry; who follows clears it before waiting.
    """

    def __init__(self, capacity: int) -> None:
        """Args: capacity: bytes of data and of a fixed allowance per entry."""
        self.changed: Final = Event()
        self._capacity = capacity
        self._entries: deque[Entry] = deque()
        self._size = 0

    def append(self, entry: Entry) -> None:
        """Keep `entry`, and drop the oldest until all fits."""
        self._entries.append(entry)
        self._size += len(entry.data) + _ENTRY_OVERHEAD
        while self._size > self._capacity:
            gone = self._entries.popleft()
            self._size -= len(gone.data) + _ENTRY_OVERHEAD
        self.changed.set()

    @property
    def following(self) -> int:
        """The number that the next entry will have."""
        return self._entries[-1].sequence + 1 if self._entries else 0

    def since(self, sequence: int, limit: int) -> tuple[Entry, ...]:
        """Return at most `limit` entries from number `sequence` on, oldest first."""
        if not self._entries:
            return ()
        # numbers never skip, so the place of one follows from the first
        start = max(0, sequence - self._entries[0].sequence)
        return tuple(islice(self._entries, start, start + limit))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._size = 0
