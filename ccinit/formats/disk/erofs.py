"""What the guest reads of an erofs index over a tar (Linux, fs/erofs/erofs_fs.h).

The kernel reads all of it, and tells where on a device a file's content lies (FS_IOC_FIEMAP), but
not on which device. This module checks that it is the tar, and not the index, every byte of which
its maker chose.
"""

import struct

from ccinit.errors import FormatError, VerificationError

_SUPERBLOCK_OFFSET = 1024
_MAGIC = 0xE0F5E1E2
_BLOCK_BITS = 9
_DEVICE_TABLE = 0x8  # the one incompatible feature of an index; others would move what is read here
_MAGIC_FIELD, _BLOCK_FIELD = struct.Struct("<I"), struct.Struct("<12x B")
_START_FIELD, _FEATURES_FIELD = struct.Struct("<40x I"), struct.Struct("<80x I")
_SLOT_BYTES = 32
_INODE = struct.Struct("<HH 12x H")  # format, attributes, the format of chunks
_EXTENDED = 1
_COMPACT_BYTES, _EXTENDED_BYTES = 32, 64
_LAYOUT_SHIFT, _LAYOUT_MASK, _CHUNKS = 1, 7, 4
_XATTR_HEADER_BYTES, _XATTR_SLOT_BYTES = 12, 4
_CHUNK_BITS_MASK, _HAS_DEVICES = 0x1F, 0x20
_CHUNK_BYTES, _CHUNK_DEVICE = 8, struct.Struct("<2x H")
_TAR = 1
"""The number of the one device that the index has besides itself."""


def parse_index_superblock(index: bytes | memoryview) -> int:
    """Return where the inodes of an index begin, in bytes.

    Raises:
        FormatError: `erofs.superblock`, there is none, or none of an index over a tar.
    """
    try:
        (magic,), (bits,), (start,), (features,) = (
            field.unpack_from(index, _SUPERBLOCK_OFFSET)
            for field in (_MAGIC_FIELD, _BLOCK_FIELD, _START_FIELD, _FEATURES_FIELD)
        )
    except struct.error as error:
        raise FormatError("erofs.superblock", "there is none") from error
    if magic != _MAGIC or bits != _BLOCK_BITS or features != _DEVICE_TABLE:
        raise FormatError("erofs.superblock", "it is not that of an index")
    return int(start) << _BLOCK_BITS


def verify_in_tar(index: bytes | memoryview, start: int, inode: int, size: int) -> None:
    """Check that the content of a file is one chunk, and that this lies in the tar.

    Args:
        index: the whole index.
        start: where its inodes begin.
        inode: the file's number.
        size: of the file, more than 0 bytes.

    Raises:
        VerificationError: `erofs.content`.
    """
    try:
        offset = start + inode * _SLOT_BYTES
        inode_format, xattrs, chunks = _INODE.unpack_from(index, offset)
        offset += _EXTENDED_BYTES if inode_format & _EXTENDED else _COMPACT_BYTES
        if xattrs:
            offset += _XATTR_HEADER_BYTES + (xattrs - 1) * _XATTR_SLOT_BYTES
        (device,) = _CHUNK_DEVICE.unpack_from(index, -(-offset // _CHUNK_BYTES) * _CHUNK_BYTES)
    except (struct.error, OverflowError) as error:
        raise VerificationError("erofs.content", f"inode {inode} is not there") from error
    is_chunk = inode_format >> _LAYOUT_SHIFT & _LAYOUT_MASK == _CHUNKS and chunks & _HAS_DEVICES
    max_bytes = 1 << _BLOCK_BITS + (chunks & _CHUNK_BITS_MASK)
    if not is_chunk or size > max_bytes or device != _TAR:
        raise VerificationError("erofs.content", f"that of inode {inode} is not in the tar")
