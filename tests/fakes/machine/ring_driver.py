"""A guest's driver of one ring over plain bytes: what it describes, offers and finds used."""

import struct

from host_runtime.vsock.guest_memory import GuestMemory, MemoryRegion
from host_runtime.vsock.virtqueue import RingLayout, Virtqueue

USER_BASE = 0x1000
"""Where QEMU would see the memory that the guest sees from 0 on."""


class RingDriver:
    """A ring of `size` entries at the start of `memory_bytes` of guest memory."""

    def __init__(self, size: int = 4, memory_bytes: int = 0x2000) -> None:
        self.size = size
        self.available = -(-16 * size // 0x100) * 0x100
        self.used_at = self.available + -(-(4 + 2 * size) // 0x100) * 0x100
        self.layout = RingLayout(
            size=size,
            descriptors=USER_BASE,
            available=USER_BASE + self.available,
            used=USER_BASE + self.used_at,
        )
        self.memory = bytearray(memory_bytes)
        view = memoryview(self.memory)
        region = MemoryRegion(guest_address=0, user_address=USER_BASE, view=view)
        self.table = GuestMemory((region,))

    def queue(self, layout: RingLayout | None = None, last: int = 0) -> Virtqueue:
        """Return the device's side of the ring, or of another one in the same memory."""
        return Virtqueue(memory=self.table, layout=layout or self.layout, last_available=last)

    def describe(
        self, slot: int, address: int, length: int, flags: int = 0, after: int = 0
    ) -> None:
        """Write a descriptor."""
        struct.pack_into("<QIHH", self.memory, 16 * slot, address, length, flags, after)

    def offer(self, *heads: int, first: int = 0) -> None:
        """Make chains available, the first of them as entry number `first`."""
        for number, head in enumerate(heads, first):
            at = self.available + 4 + 2 * (number % self.size)
            struct.pack_into("<H", self.memory, at, head)
        count = (first + len(heads)) & 0xFFFF
        struct.pack_into("<H", self.memory, self.available + 2, count)

    def used(self) -> tuple[int, int, int]:
        """Return how many chains were given back; head and length of the last one."""
        (index,) = struct.unpack_from("<H", self.memory, self.used_at + 2)
        at = self.used_at + 4 + 8 * ((index - 1) % self.size)
        head, length = struct.unpack_from("<II", self.memory, at)
        return index, head, length
