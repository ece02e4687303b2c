"""The disks of the test guest, found inside by their serial numbers; sparse, zero at each boot."""

from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class GuestDisk:
    """One virtio disk."""

    serial: str
    size_bytes: int
    read_only: bool = False


BIG = GuestDisk("big", 64 * GIB)
SMALL = GuestDisk("small", 256 * MIB)
VOLUME = GuestDisk("volume", 256 * MIB)
ODD = GuestDisk("odd", 300 * MIB + 12_288)
SEALED = GuestDisk("sealed", 16 * MIB, read_only=True)

DISKS = (BIG, SMALL, VOLUME, ODD, SEALED)

HOSTILE = GuestDisk("hostile", 64 * MIB)
"""Lies on demand; see `hostile_host`."""

RESIZED = GuestDisk("resized", 64 * MIB)
UNPLUGGED = GuestDisk("unplugged", 64 * MIB)
"""Once in a boot: it does not come back."""
