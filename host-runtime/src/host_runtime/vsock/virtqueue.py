"""One split virtqueue, device side, against a hostile driver (virtio 1.2, section 2.7).

Every index, address and length that the guest writes is read once, checked, and only then used;
walks are bounded by the ring's size. A violation raises `FormatError("ring.…")`: the owner stops
serving the ring until the driver resets the device. Event indexes and indirect descriptors are not
offered, so both are refused. What the buffers hold is left to `host_runtime.vsock.datapath`.
"""

import struct
import threading
from dataclasses import dataclass

from ccinit.errors import FormatError
from host_runtime.vsock.guest_memory import GuestMemory

MAX_RING_ENTRIES = 1024  # QEMU's VIRTQUEUE_MAX_SIZE; its vsock device uses 128

_DESCRIPTOR = struct.Struct("<QIHH")
_USED_ELEMENT = struct.Struct("<II")
_DESCRIPTOR_NEXT = 1
_DESCRIPTOR_WRITE = 2
_DESCRIPTOR_INDIRECT = 4
_AVAILABLE_NO_INTERRUPT = 1

# Taking a lock is the only full memory barrier that Python has; see `wants_interrupt`.
_FENCE = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class RingLayout:
    """Where a ring lies: entry count, and its three parts as addresses of QEMU's process."""

    size: int
    descriptors: int
    available: int
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorChain:
    """One buffer from the driver: parts for the device to read, then parts for it to write."""

    head: int
    readable: tuple[memoryview, ...]
    writable: tuple[memoryview, ...]

    @property
    def writable_bytes(self) -> int:
        """Room in the parts that the device may write."""
        return sum(map(len, self.writable))

    def read(self, length: int) -> bytes:
        """Return a copy of the first `length` readable bytes (fewer, if there are fewer)."""
        content = bytearray()
        for part in self.readable:
            content += part[: length - len(content)]
        return bytes(content)

    def write(self, data: bytes) -> None:
        """Write `data` into the writable parts from their start; the caller checked the room."""
        offset = 0
        for part in self.writable:
            piece = data[offset : offset + len(part)]
            part[: len(piece)] = piece
            offset += len(piece)


class Virtqueue:
    """One running ring. `last_available` is the index of the next entry to take."""

    def __init__(self, *, memory: GuestMemory, layout: RingLayout, last_available: int) -> None:
        size = layout.size
        if size & (size - 1) or not 0 < size <= MAX_RING_ENTRIES:
            raise FormatError("ring.size", f"{size} entries")
        if layout.descriptors % 16 or layout.available % 2 or layout.used % 4:
            raise FormatError("ring.alignment", "a part of the ring is not aligned")
        self._memory = memory
        self._size = size
        self._descriptors = memory.user_bytes(layout.descriptors, 16 * size)
        # A cast view loads and stores each index with one 16-bit access. `struct` with "<H" goes
        # byte by byte, and would now and then see half of another CPU's update.
        self._available = memory.user_bytes(layout.available, 4 + 2 * size).cast("H")
        used = memory.user_bytes(layout.used, 4 + 8 * size)
        self._used_index = used[:4].cast("H")
        self._used_elements = used[4:]
        self.last_available = last_available & 0xFFFF

    def _pending(self) -> int:
        """Return how many buffers the driver has made available.

        Raises:
            FormatError: `ring.available_index`: more than the ring has entries.
        """
        pending = (self._available[1] - self.last_available) & 0xFFFF
        if pending > self._size:
            raise FormatError(
                "ring.available_index", f"{pending} new entries, ring of {self._size}"
            )
        return pending

    def take(self) -> DescriptorChain | None:
        """Return the next available buffer, or None if there is none.

        Raises:
            FormatError: the ring or the chain is malformed.
        """
        if not self._pending():
            return None
        head = self._available[2 + self.last_available % self._size]
        chain = self._walk(head)
        self.last_available = (self.last_available + 1) & 0xFFFF
        return chain

    def _walk(self, head: int) -> DescriptorChain:
        readable: list[memoryview] = []
        writable: list[memoryview] = []
        index = head
        for _ in range(self._size):
            if index >= self._size:
                raise FormatError("ring.descriptor_index", f"{index} in a ring of {self._size}")
            address, length, flags, following = _DESCRIPTOR.unpack_from(
                self._descriptors, 16 * index
            )
            if flags & _DESCRIPTOR_INDIRECT:
                raise FormatError("ring.indirect", "indirect descriptors were not offered")
            part = self._memory.guest_bytes(address, length)
            if flags & _DESCRIPTOR_WRITE:
                writable.append(part)
            elif writable:
                raise FormatError("ring.order", "a readable part follows a writable one")
            else:
                readable.append(part)
            if not flags & _DESCRIPTOR_NEXT:
                return DescriptorChain(
                    head=head, readable=tuple(readable), writable=tuple(writable)
                )
            index = following
        raise FormatError("ring.loop", f"a chain is longer than the ring's {self._size} entries")

    def publish(self, chain: DescriptorChain, written_bytes: int) -> None:
        """Give `chain` back to the driver, saying how many bytes were written into it."""
        index = self._used_index[1]
        _USED_ELEMENT.pack_into(
            self._used_elements, 8 * (index % self._size), chain.head, written_bytes
        )
        self._used_index[1] = (index + 1) & 0xFFFF

    def wants_interrupt(self) -> bool:
        """Return whether the driver asks to be told of published buffers.

        The flag must be loaded after the used index is visible, else both sides may go to sleep: a
        store followed by a load is the one order that x86 does not keep by itself.
        """
        with _FENCE:
            pass
        return not self._available[0] & _AVAILABLE_NO_INTERRUPT
