"""Sealed bytes on their way to a host that may be slow, absent or hostile (R91).

Scope: a bounded byte store with the cursor of RPC `collect`. A cursor is an offset in the whole
stream; collecting from a cursor acknowledges everything before it. The newest acknowledged bytes
stay readable, so a collector that restarts loses little. Unacknowledged bytes are never discarded,
because a chain with a gap cannot be decrypted. What does not fit is refused here and counted by
`ccinit.seal.log`.

Left to others: waiting for bytes (PID 1's event loop), padding of the reply
(`ccinit.formats.planes.host_rpc`), when bytes are shown (`ccinit.seal.log`).
"""

from ccinit.annotations import Final
from ccinit.errors import PeerError
from ccinit.values import frozen

KEPT_BYTES: Final = 512 << 10
"""Of acknowledged bytes: a boot's log, or eight replies; keeping more would waste memory."""


@frozen
class Chunk:
    """Bytes of the stream; `following` is the next cursor, `last` means that nothing follows."""

    data: bytes
    following: int
    last: bool


class SealedRing:
    """A FIFO of bytes with stable offsets; `capacity` bounds its memory."""

    def __init__(self, capacity: int, kept: int = KEPT_BYTES) -> None:
        """Args: capacity: bytes in all; kept: the most acknowledged bytes to keep."""
        self.capacity = capacity
        self._kept = kept
        self._bytes = bytearray()
        self._base = 0  # stream offset of the first byte kept
        self._acknowledged = 0
        self._released: int | None = None  # None: everything is shown as it comes
        self._closed = False

    @property
    def released(self) -> int:
        """Stream offset after the last byte that readers are shown."""
        return self.end if self._released is None else self._released

    @property
    def end(self) -> int:
        """Stream offset after the last byte."""
        return self._base + len(self._bytes)

    @property
    def unread(self) -> int:
        """How many bytes are shown to readers and not acknowledged."""
        return self.released - self._acknowledged

    @property
    def room(self) -> int:
        """How many bytes can be appended now."""
        return self.capacity - (self.end - self._acknowledged)

    def append(self, data: bytes) -> None:
        """Add sealed bytes at the end.

        Raises:
            RuntimeError: no room, or closed; ask `room` first.
        """
        if self._closed or len(data) > self.room:
            raise RuntimeError("the ring does not take these bytes")
        self._forget(self.end + len(data) - self.capacity)
        self._bytes += data

    def release(self, end: int) -> None:
        """Show readers the bytes before `end`, and from now on no others until the next call.

        Raises:
            RuntimeError: `end` is not in the stream, or was shown before.
        """
        if not (self._released or 0) <= end <= self.end:
            raise RuntimeError("what is released was written, and stays released")
        self._released = end

    def close(self) -> None:
        """Mark the stream as complete, and show all of it."""
        self._closed = True
        self._released = None

    def is_readable(self, cursor: int) -> bool:
        """Whether `read` from `cursor` would now return bytes or the end."""
        return self._closed or cursor < self.released

    def read(self, cursor: int, limit: int) -> Chunk:
        """Return at most `limit` bytes from `cursor`, or from the oldest byte kept if later.

        Raises:
            PeerError: `collect.cursor`, an offset that the stream has not reached.
        """
        if not 0 <= cursor <= self.released:
            raise PeerError("collect.cursor", f"cursor {cursor} of {self.released}")
        start = max(cursor - self._base, 0)
        stop = min(start + limit, self.released - self._base)
        data = bytes(self._bytes[start:stop])
        following = self._base + start + len(data)
        return Chunk(data=data, following=following, last=self._closed and following == self.end)

    def collect(self, cursor: int, limit: int) -> Chunk:
        """Like `read`, and take the cursor as acknowledging everything before it."""
        chunk = self.read(cursor, limit)
        self._acknowledged = max(self._acknowledged, cursor)
        self._forget(self._acknowledged - self._kept)
        return chunk

    def _forget(self, end: int) -> None:
        """Drop everything before the stream offset `end`."""
        excess = end - self._base
        if excess > 0:
            del self._bytes[:excess]
            self._base = end
