"""An index says of each file that its content is in the tar, or the index is refused."""

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.disk.erofs import parse_index_superblock, verify_in_tar

# What mkfs.erofs 1.8.6 wrote with `--tar=i`: the superblock, an inode of 600 bytes with its chunk,
# and an extended one of 7 bytes with attributes of 236.
SUPERBLOCK = bytes.fromhex(
    "e2e1f5e000000000020000000900280003000000000000000000000000000000"
    "0000000003000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000008000000000001000900000000000000"
)
COMPACT = bytes.fromhex(
    "08000000a48101005802000000000000210000000200000000000000000000000000010001000000"
)
EXTENDED = (
    bytes.fromhex(
        "09003900a4810000070000000000000020000000"
        "3a00000070110100000000000500000000000000050000000100000000000000"
    ).ljust(64, b"\0")
    + b"v" * 236
    + bytes.fromhex("00000000000001001b000000")
)
FIRST, SECOND = 40, 43
MAGIC, BLOCK_BITS, START, FEATURES = 1024, 1036, 1064, 1104
CHUNK_FORMAT, DEVICE = 16, 34


def index(*, compact: bytes = COMPACT, **changes: int) -> bytes:
    """An index with one inode of each form, and other numbers in some fields of the superblock."""
    data = bytearray(bytes(1024) + SUPERBLOCK)
    for name, value in changes.items():
        data[globals()[name]] = value
    data = data.ljust(32 * FIRST, b"\0") + compact
    return bytes(data.ljust(32 * SECOND, b"\0") + EXTENDED)


def changed(offset: int, value: int) -> bytes:
    return COMPACT[:offset] + bytes([value]) + COMPACT[offset + 1 :]


def verify(data: bytes, inode: int = FIRST, size: int = 600) -> None:
    verify_in_tar(data, parse_index_superblock(data), inode, size)


def test_content_in_the_tar_is_taken() -> None:
    verify(index())
    verify(index(), SECOND, 7)


def test_inodes_are_counted_from_where_the_superblock_says() -> None:
    """In blocks of 512 bytes."""
    verify(index(START=1), FIRST - 16)


@pytest.mark.parametrize(
    ("compact", "inode", "size"),
    [
        pytest.param(changed(DEVICE, 0), FIRST, 600, id="in the index"),
        pytest.param(changed(DEVICE, 2), FIRST, 600, id="on another device"),
        pytest.param(changed(0, 0x00), FIRST, 600, id="in blocks of the index"),
        pytest.param(changed(0, 0x04), FIRST, 600, id="behind the inode"),
        pytest.param(changed(0, 0x02), FIRST, 600, id="compressed"),
        pytest.param(changed(0, 0x06), FIRST, 600, id="compressed compactly"),
        pytest.param(changed(CHUNK_FORMAT, 0x01), FIRST, 600, id="chunks that name no device"),
        pytest.param(COMPACT, FIRST, 1025, id="more than a chunk"),
        pytest.param(COMPACT, 4000, 600, id="behind the end"),
        pytest.param(COMPACT, 1 << 59 | FIRST, 600, id="where the kernel's sum is the same"),
    ],
)
def test_content_that_may_be_elsewhere_is_refused(compact: bytes, inode: int, size: int) -> None:
    verify(index(compact=COMPACT))
    with pytest.raises(CcinitError) as refused:
        verify(index(compact=compact), inode, size)
    assert refused.value.reason == "erofs.content"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes(4096), id="none"),
        pytest.param(bytes(1024) + SUPERBLOCK[:80], id="cut off"),
        pytest.param(index(MAGIC=0), id="of something else"),
        pytest.param(index(BLOCK_BITS=12), id="other blocks"),
        pytest.param(index(FEATURES=0x88), id="wider inodes"),
        pytest.param(index(FEATURES=0x0B), id="compression"),
    ],
)
def test_superblock_of_no_index_is_refused(data: bytes) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_index_superblock(data)
    assert refused.value.reason == "erofs.superblock"
