import pytest

from ccinit.errors import FormatError
from ccinit.formats.disk.ext4 import Ext4Superblock, parse_ext4_superblock

# What mkfs.ext4 1.47.2 wrote on 160 MiB with the options of a volume; between and after is more.
BEGINNING = bytes.fromhex(
    "00a0000000a0000000000000f3850000f59f0000000000000200000002000000"
    "0080000000800000005000000000000001a7076b0000ffff53ef010001000000"
    "01a7076b000000000000000001000000000000000b000000000100002c000000"
    "d20200006b0400000560c27f056c4e7e"
)
COUNT, LOG_BLOCK_SIZE, GROUP, MAGIC, INCOMPAT, COUNT_HIGH = 4, 24, 32, 56, 96, 336


def start(**changes: int) -> bytes:
    """The file system's first bytes with other numbers in some fields."""
    block = bytearray(BEGINNING.ljust(1024, b"\0"))
    for name, value in changes.items():
        offset = globals()[name]
        block[offset : offset + 4] = value.to_bytes(4, "little")
    return bytes(1024) + bytes(block)


def test_superblock_of_a_new_volume_says_its_size_and_that_it_grows() -> None:
    assert parse_ext4_superblock(start()) == Ext4Superblock(
        block_count=40960, can_grow=True, has_errors=False
    )


def test_size_has_two_halves_if_the_file_system_says_so() -> None:
    assert parse_ext4_superblock(start(COUNT_HIGH=2)).block_count == (2 << 32) + 40960
    narrow = parse_ext4_superblock(start(COUNT_HIGH=2, INCOMPAT=0x252))
    assert narrow.block_count == 40960


def test_file_system_with_its_descriptors_in_one_place_does_not_grow() -> None:
    assert not parse_ext4_superblock(start(INCOMPAT=0x2C2)).can_grow


def test_errors_that_the_kernel_found_are_told() -> None:
    assert parse_ext4_superblock(start(MAGIC=0xEF53 | 3 << 16)).has_errors


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(start()[:2047], id="cut-off"),
        pytest.param(bytes(4096), id="zeros"),
        pytest.param(start(MAGIC=0xEF52), id="no-magic"),
        pytest.param(start(LOG_BLOCK_SIZE=0), id="blocks-of-1024"),
        pytest.param(start(GROUP=8192), id="small-groups"),
    ],
)
def test_what_is_no_superblock_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as error:
        parse_ext4_superblock(data)
    assert error.value.reason == "ext4.superblock"
