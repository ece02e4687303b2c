"""How much dm-integrity stores beside a disk's blocks (`drivers/md/dm-integrity.c`, Linux 6.12).

Tags are always 32 bytes for each block of 4096. The numbers are here because the owner's tools and
the parser of the manifest count with them, too; tables and superblock are `unlock`'s.
"""

from ccinit.annotations import Final

BLOCK_BYTES: Final = 4096
"""The unit of encryption, of authentication and of ext4; disk sizes are multiples of it."""

TAG_BYTES: Final = 16 + 16
"""Of each block: a random IV, then a MAC."""

SUPERBLOCK_BYTES: Final = 4096
_SECTOR_BYTES: Final = 512
_BLOCK_SECTORS: Final = BLOCK_BYTES // _SECTOR_BYTES

# One journal sector holds 504 bytes of entries; an entry is its sector number, the ends of the
# eight 512-byte sectors of a block, and the tag. Sections hold eight such sectors and their data.
_ENTRY_BYTES: Final = 8 + 8 * _BLOCK_SECTORS + TAG_BYTES
_SECTION_ENTRIES: Final = 8 * (504 // _ENTRY_BYTES)
SECTION_SECTORS: Final = _SECTION_ENTRIES * _BLOCK_SECTORS + 8
"""Of a section of the journal, the smallest journal there is."""

BUFFER_SECTORS: Final = 128
_BUFFER_BYTES: Final = BUFFER_SECTORS * _SECTOR_BYTES


def count_meta_bytes(disk_bytes: int) -> int:
    """Return the bytes of metadata beside a disk: superblock, smallest journal, tags.

    Memory is allocated when blocks are first written; this is the maximum.
    """
    tags_bytes = disk_bytes // BLOCK_BYTES * TAG_BYTES
    whole_buffers = -(-tags_bytes // _BUFFER_BYTES) * _BUFFER_BYTES
    return SUPERBLOCK_BYTES + SECTION_SECTORS * _SECTOR_BYTES + whole_buffers
