import pytest

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.disk.verity import (
    RootHash,
    Salt,
    VerityParameters,
    build_hash_tree,
    encode_table,
    hash_tree_levels,
    verify_root_block,
)

SALT = Salt(bytes(range(32)))


def numbered_blocks(count: int) -> bytes:
    return b"".join(b"%4096d" % index for index in range(count))


# Made with `veritysetup format --no-superblock --salt=00…1f` (cryptsetup 2.7) over the same bytes.
VERITYSETUP = {
    2: "d7a6c35e572e26da5fb33f2d3f178b2e1af59b0eb856aabafa1d89497f3b4abb",
    128: "614a46890c897730168fc86a7ef3358c119bd0d6ad7686cfea49207b2e3eb8e1",
    129: "fa2b18b87072e4dd7fcb64f600b095a9797b7b9eb4944fb089d41211d56bd292",
    300: "d0c6ca9db456bf7f1614e32343595282c9b082f05b10701ad965993c78779562",
}


@pytest.mark.parametrize("blocks", VERITYSETUP)
def test_hash_tree_has_the_root_of_veritysetup(blocks: int) -> None:
    parameters, tree = build_hash_tree([numbered_blocks(blocks)], SALT)
    assert parameters.root_hash.hex() == VERITYSETUP[blocks]
    assert parameters.data_blocks == blocks
    assert parameters.device_bytes == blocks * 4096 + len(tree)


def test_hash_tree_does_not_depend_on_how_the_data_is_cut() -> None:
    data = numbered_blocks(150)
    pieces = [data[:4096], data[4096 : 40 * 4096], data[40 * 4096 :]]
    assert build_hash_tree(pieces, SALT) == build_hash_tree([data], SALT)


def test_hash_tree_of_partial_block_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        build_hash_tree([bytes(4096), bytes(4095)], SALT)
    assert error.value.reason == "verity.alignment"


def test_hash_tree_of_one_block_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        build_hash_tree([bytes(4096)], SALT)
    assert error.value.reason == "verity.blocks"


@pytest.mark.parametrize(
    ("blocks", "levels"),
    [
        pytest.param(2, (1,), id="one-level"),
        pytest.param(128, (1,), id="one-full-level"),
        pytest.param(129, (1, 2), id="two-levels"),
        pytest.param(16384, (1, 128), id="two-full-levels"),
        pytest.param(16385, (1, 2, 129), id="three-levels"),
    ],
)
def test_hash_tree_levels_are_counted_root_first(blocks: int, levels: tuple[int, ...]) -> None:
    assert hash_tree_levels(blocks) == levels


def test_root_block_is_verified() -> None:
    parameters, tree = build_hash_tree([numbered_blocks(300)], SALT)
    assert verify_root_block(parameters, tree[:4096]) == tree[:4096]


GOOD, TREE = build_hash_tree([numbered_blocks(300)], SALT)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"\1" + TREE[1:4096], id="first-byte"),
        pytest.param(TREE[:4095], id="short"),
        pytest.param(bytes(4096), id="zero"),
        pytest.param(TREE[4096:8192], id="another-level"),
    ],
)
def test_root_block_that_differs_is_refused(block: bytes) -> None:
    assert block != TREE[:4096]
    with pytest.raises(VerificationError) as error:
        verify_root_block(GOOD, block)
    assert error.value.reason == "verity.root"


def test_r12_r13_r14_table_names_one_device_and_panics_by_default() -> None:
    parameters = VerityParameters(root_hash=RootHash(b"\xab" * 32), salt=SALT, data_blocks=300)
    start = f"1 /dev/vda /dev/vda 4096 4096 300 300 sha256 {'ab' * 32} {SALT.hex()}"
    assert encode_table(parameters, "/dev/vda", ()) == start
    assert encode_table(parameters, "/dev/vda") == f"{start} 2 panic_on_corruption panic_on_error"


@pytest.mark.parametrize(
    ("root", "salt", "blocks", "reason"),
    [
        pytest.param(31, 32, 2, "verity.length", id="short-root"),
        pytest.param(32, 0, 2, "verity.length", id="no-salt"),
        pytest.param(32, 32, 1, "verity.blocks", id="one-block"),
        pytest.param(32, 32, (1 << 32) + 1, "verity.blocks", id="too-many-blocks"),
    ],
)
def test_parameters_out_of_range_are_refused(
    root: int, salt: int, blocks: int, reason: str
) -> None:
    with pytest.raises(FormatError) as error:
        VerityParameters(
            root_hash=RootHash(bytes(root)), salt=Salt(bytes(salt)), data_blocks=blocks
        )
    assert error.value.reason == reason
