"""dm-integrity computed beforehand: sizes, superblock and tables (kernel documentation
device-mapper/dm-integrity, layout of `drivers/md/dm-integrity.c` in Linux 6.12).

The kernel trusts most of a superblock's fields, and persistent volumes keep theirs on the host's
disk. So nothing is taken from it: its expected content follows from the disk's size, and the
kernel's view of the active device is compared with that, field by field.

Here tags are always 32 bytes per block of 4096, there is no integrity hash (dm-crypt above checks
the tags), no recalculation and no bitmap.
"""

import struct

from ccinit.errors import ConfigError, VerificationError
from ccinit.formats.disk.integrity import (
    BLOCK_BYTES,
    BUFFER_SECTORS,
    SECTION_SECTORS,
    SUPERBLOCK_BYTES,
)
from ccinit.kernel.block import SECTOR_BYTES
from ccinit.kernel.dm import DmTarget
from ccinit.unlock.profile import AEAD, BLOCK_SECTORS
from ccinit.values import frozen

_SUPERBLOCK_SECTORS = SUPERBLOCK_BYTES // SECTOR_BYTES
_SUPERBLOCK = struct.Struct("<8s B B H I Q I B B 2x Q 8x 16x")
_MAGIC = b"integrt\0"
_VERSION = 1

_INTERLEAVE_LOG2 = 15
_INTERLEAVE_SECTORS = 1 << _INTERLEAVE_LOG2
# The unused bitmap has 32768 sectors per bit; more only beyond a pebibyte.
_BITMAP_BLOCKS_LOG2 = 15 - 3
_RUN_PADDING_BYTES = SECTOR_BYTES << 8


@frozen
class MetaDevice:
    """A device for superblock and tags, beside the disk.

    Attributes:
        node: as a table names it.
        number: `major:minor`, as the kernel names it in the table of an active device.
    """

    node: str
    number: str


@frozen
class IntegrityLayout:
    """What one dm-integrity device must look like.

    Attributes:
        mode: `D` writes in place without journal, `J` through the journal.
        meta_device: holds superblock and tags; None if the disk itself does.
        journal_sections: as the superblock counts them.
        provided_bytes: usable size.
    """

    mode: str
    meta_device: MetaDevice | None
    journal_sections: int
    provided_bytes: int

    @property
    def journal_sectors(self) -> int:
        """The journal's size as rounded by the kernel."""
        return self.journal_sections * SECTION_SECTORS

    def to_superblock(self) -> bytes:
        """Return the 4096 bytes that the kernel writes when it formats a disk with tags of its own.

        If the tags are in memory, so is the superblock, and it is never read.
        """
        block = _SUPERBLOCK.pack(
            _MAGIC,
            _VERSION,
            _INTERLEAVE_LOG2,
            AEAD.tag_bytes,
            self.journal_sections,
            self.provided_bytes // SECTOR_BYTES,
            0,
            BLOCK_SECTORS.bit_length() - 1,
            _BITMAP_BLOCKS_LOG2,
            0,
        )
        return block + bytes(SUPERBLOCK_BYTES - len(block))

    def to_target(self, disk_node: str) -> DmTarget:
        """Return the table that creates or opens the device."""
        options = [f"block_size:{BLOCK_BYTES}", f"journal_sectors:{self.journal_sectors}"]
        if self.meta_device is not None:
            options.append(f"meta_device:{self.meta_device.node}")
        return DmTarget(
            length_sectors=self.provided_bytes // SECTOR_BYTES,
            kind="integrity",
            parameters=(
                f"{disk_node} 0 {AEAD.tag_bytes} {self.mode} {len(options)} {' '.join(options)}"
            ),
        )

    def to_active_tables(self, disk_number: str) -> tuple[str, str]:
        """Return the two forms in which kernels report the table of the active device.

        Linux 6.12 always gives the journal's size; 7.3 gives it along with the other journal
        fields, and only if the journal is used.
        """
        journal = [f"journal_sectors:{self.journal_sectors}"]
        buffers = [
            f"interleave_sectors:{1 if self.meta_device else _INTERLEAVE_SECTORS}",
            f"buffer_sectors:{BUFFER_SECTORS}",
        ]
        writes = ["journal_watermark:50", "commit_time:10000"] if self.mode == "J" else []
        return (
            self._describe_active(disk_number, journal + buffers + writes),
            self._describe_active(disk_number, buffers + (journal + writes if writes else [])),
        )

    def _describe_active(self, disk_number: str, more: list[str]) -> str:
        meta = [f"meta_device:{self.meta_device.number}"] if self.meta_device else []
        options = [*meta, f"block_size:{BLOCK_BYTES}", *more]
        return f"{disk_number} 0 {AEAD.tag_bytes} {self.mode} {len(options)} {' '.join(options)}"


def plan_memory_layout(disk_bytes: int, meta_device: MetaDevice) -> IntegrityLayout:
    """Plan tags in memory: the disk holds nothing but ciphertext, block n at n * 4096.

    Mode `D` does not use a journal, but the kernel allocates one, so the smallest is requested.
    """
    return IntegrityLayout(
        mode="D",
        meta_device=meta_device,
        journal_sections=1,
        provided_bytes=disk_bytes,
    )


def plan_disk_layout(disk_bytes: int, journal_bytes: int) -> IntegrityLayout:
    """Plan tags on the disk: superblock, journal, then runs of tags and 16 MiB of data in turn.

    Args:
        disk_bytes: of the whole disk.
        journal_bytes: the least size of the journal, through which data is written twice so that a
            crash loses nothing; with 0 it is written in place, and the kernel's journal stays
            unused.

    Raises:
        ConfigError: `disk.size`, too small for its own metadata.
    """
    sections = max(1, journal_bytes // SECTOR_BYTES // SECTION_SECTORS)
    start = _SUPERBLOCK_SECTORS + sections * SECTION_SECTORS
    tags_bytes = AEAD.tag_bytes * (_INTERLEAVE_SECTORS // BLOCK_SECTORS)
    run = -(-tags_bytes // _RUN_PADDING_BYTES) * _RUN_PADDING_BYTES // SECTOR_BYTES
    areas, rest = divmod(disk_bytes // SECTOR_BYTES - start, run + _INTERLEAVE_SECTORS)
    sectors = areas * _INTERLEAVE_SECTORS + max(0, rest - run)
    provided_bytes = sectors // BLOCK_SECTORS * BLOCK_BYTES
    if provided_bytes <= 0:
        raise ConfigError("disk.size", f"{disk_bytes} bytes do not hold their own tags")
    return IntegrityLayout(
        mode="J" if journal_bytes else "D",
        meta_device=None,
        journal_sections=sections,
        provided_bytes=provided_bytes,
    )


def verify_active(
    layout: IntegrityLayout, disk_number: str, table: DmTarget, status: DmTarget
) -> DmTarget:
    """Return the active table if the kernel's view of the device is the planned one.

    Raises:
        VerificationError: `integrity.table` or `integrity.sectors`.
    """
    expected = layout.to_target("")
    if (
        table.kind != expected.kind
        or table.length_sectors != expected.length_sectors
        or table.parameters not in layout.to_active_tables(disk_number)
    ):
        raise VerificationError(
            "integrity.table", f"the active table is {table.parameters[:500]!r}"
        )
    mismatches, _, rest = status.parameters.partition(" ")
    if mismatches != "0" or rest.split(" ")[0] != str(layout.provided_bytes // SECTOR_BYTES):
        raise VerificationError("integrity.sectors", f"the status is {status.parameters[:80]!r}")
    return table
