"""What the guest reads of an ext4 superblock (kernel documentation, filesystems/ext4).

The kernel reads all of it; this module reads only how large the file system is, and whether Linux
can grow it while mounted. PID 1 parses that itself: the bytes are authenticated by the volume's
tags under the owner's key, and are a few integers at fixed offsets.
"""

import struct

from ccinit.errors import FormatError
from ccinit.values import frozen

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_BYTES = 1024
GROUP_BLOCKS = 8 * 4096
"""A group has as many blocks as one block of bitmap has bits."""

_MAGIC = 0xEF53
_LOG_BLOCK_BYTES = 2  # 1024 << 2
_STATE_ERRORS = 2
_INCOMPAT_META_BG = 0x10
_INCOMPAT_64BIT = 0x80
_COUNT_LOW = struct.Struct("<4x I")
_BLOCK_SIZE = struct.Struct("<24x I 4x I")
_MAGIC_FIELD = struct.Struct("<56x H")
_STATE = struct.Struct("<58x H")
_INCOMPAT = struct.Struct("<96x I")
_COUNT_HIGH = struct.Struct("<336x I")


@frozen
class Ext4Superblock:
    """One file system.

    Attributes:
        block_count: of 4096 bytes.
        can_grow: its group descriptors lie with their groups (`meta_bg`), so that there is room for
            those of any number of groups more.
        has_errors: the kernel has found errors since it was made, and they were not repaired.
    """

    block_count: int
    can_grow: bool
    has_errors: bool


def parse_ext4_superblock(start: bytes) -> Ext4Superblock:
    """Decode the superblock in the first bytes of a file system.

    Args:
        start: at least 2048 bytes.

    Raises:
        FormatError: `ext4.superblock`, there is none, or its sizes are not those the guest uses.
    """
    block = start[SUPERBLOCK_OFFSET : SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES]
    if len(block) != SUPERBLOCK_BYTES or _MAGIC_FIELD.unpack_from(block) != (_MAGIC,):
        raise FormatError("ext4.superblock", "there is none")
    if _BLOCK_SIZE.unpack_from(block) != (_LOG_BLOCK_BYTES, GROUP_BLOCKS):
        raise FormatError("ext4.superblock", "its blocks or groups have another size")
    (state,), (features,) = _STATE.unpack_from(block), _INCOMPAT.unpack_from(block)
    (low,), (high,) = _COUNT_LOW.unpack_from(block), _COUNT_HIGH.unpack_from(block)
    return Ext4Superblock(
        block_count=low | (high << 32 if features & _INCOMPAT_64BIT else 0),
        can_grow=bool(features & _INCOMPAT_META_BG),
        has_errors=bool(state & _STATE_ERRORS),
    )
