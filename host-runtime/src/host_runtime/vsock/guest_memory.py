"""Guest memory as the device sees it: mapped regions, and addresses that are checked before use.

The regions come from QEMU (vhost-user SET_MEM_TABLE), the addresses from the guest, which is
hostile: an address or a length outside one region is refused here, so nobody else does arithmetic
on them. What the bytes mean is left to `host_runtime.vsock.virtqueue`.
"""

import mmap
import os
from dataclasses import dataclass

from ccinit.errors import FormatError
from host_runtime.vsock.vhost_user import RegionLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRegion:
    """One mapped region: where the guest and where QEMU see it, and its bytes."""

    guest_address: int
    user_address: int
    view: memoryview


class GuestMemory:
    """All regions of one memory table.

    A mapping lives as long as some view of it does, so replacing a table needs no unmapping.
    """

    def __init__(self, regions: tuple[MemoryRegion, ...]) -> None:
        self._regions = regions

    def guest_bytes(self, address: int, length: int) -> memoryview:
        """Return the bytes at a guest physical address (what descriptors hold).

        Raises:
            FormatError: `ring.address`: not wholly inside one region.
        """
        for region in self._regions:
            offset = address - region.guest_address
            if offset >= 0 and offset + length <= len(region.view):
                return region.view[offset : offset + length]
        raise FormatError("ring.address", f"{length} bytes at guest address {address:#x}")

    def user_bytes(self, address: int, length: int) -> memoryview:
        """Return the bytes at an address of QEMU's process (what ring addresses are).

        Raises:
            FormatError: `ring.address`: not wholly inside one region.
        """
        for region in self._regions:
            offset = address - region.user_address
            if offset >= 0 and offset + length <= len(region.view):
                return region.view[offset : offset + length]
        raise FormatError("ring.address", f"{length} bytes at user address {address:#x}")


def open_guest_memory(
    layouts: tuple[RegionLayout, ...], descriptors: tuple[int, ...]
) -> GuestMemory:
    """Map each region's descriptor, shared and writable. The descriptors stay with the caller.

    Raises:
        FormatError: `vhost.memory`: the counts differ, or a file is shorter than its region.
    """
    if len(layouts) != len(descriptors):
        raise FormatError(
            "vhost.memory", f"{len(layouts)} regions came with {len(descriptors)} descriptors"
        )
    return GuestMemory(tuple(map(_map_region, layouts, descriptors)))


def _map_region(layout: RegionLayout, descriptor: int) -> MemoryRegion:
    end = layout.offset + layout.size
    # Reading a mapping beyond the file's end is SIGBUS, which no Python handler survives.
    if os.fstat(descriptor).st_size < end:
        raise FormatError("vhost.memory", f"a region ends at {end:#x}, after its file")
    try:
        mapping = mmap.mmap(descriptor, end)  # from 0: the offset need not be page-aligned
    except (OSError, ValueError) as error:
        raise FormatError("vhost.memory", f"a region of {layout.size} bytes: {error}") from error
    return MemoryRegion(
        guest_address=layout.guest_address,
        user_address=layout.user_address,
        view=memoryview(mapping)[layout.offset : end],
    )
