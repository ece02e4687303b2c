"""The root disk is data, then a tree that stands for exactly this data."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.disk.verity import BLOCK_BYTES, verify_root_block
from measured_boot.image.verity import ROOT_SALT, append_hash_tree

# `veritysetup format --no-superblock --hash=sha256 --salt=` ROOT_SALT, cryptsetup 2.7.5.
BLOCKS = 300
VERITYSETUP_ROOT = "0ade6735ac6dab264456688d1a48af2215b1dee95bbf4c324a6549d4148e3170"


def image(blocks: int) -> bytes:
    return b"".join(index.to_bytes(BLOCK_BYTES, "little") for index in range(blocks))


def test_disk_of_known_data_has_the_root_that_veritysetup_gives() -> None:
    disk = append_hash_tree(image(BLOCKS))
    assert disk.parameters.root_hash.hex() == VERITYSETUP_ROOT
    assert disk.parameters.data_blocks == BLOCKS


def test_disk_begins_with_the_data_and_ends_with_the_tree() -> None:
    data = image(BLOCKS)
    disk = append_hash_tree(data)
    assert disk.data[: len(data)] == data
    assert len(disk.data) == disk.parameters.device_bytes
    first_block_of_tree = disk.data[len(data) : len(data) + BLOCK_BYTES]
    verify_root_block(disk.parameters, first_block_of_tree)


def test_disk_of_a_partial_block_is_padded_with_zeros() -> None:
    disk = append_hash_tree(image(2) + b"x")
    assert disk.parameters.data_blocks == 3
    assert disk.data[2 * BLOCK_BYTES : 3 * BLOCK_BYTES] == b"x".ljust(BLOCK_BYTES, b"\0")


def test_disk_of_one_flipped_bit_has_another_root() -> None:
    data = bytearray(image(BLOCKS))
    data[-1] ^= 1
    assert append_hash_tree(bytes(data)).parameters.root_hash.hex() != VERITYSETUP_ROOT


def test_salt_of_the_root_never_changes() -> None:
    assert ROOT_SALT.hex() == "a93050f3294d23d41e9f01ba6c5537454446fba9bb1b39458ee54312ba16ccca"


def test_disk_too_small_for_a_tree_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        append_hash_tree(b"x")
    assert error.value.reason == "verity.blocks"
