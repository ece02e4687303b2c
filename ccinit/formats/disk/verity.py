"""dm-verity without a superblock: parameters, geometry, table text and the hash tree itself.

Format 1 of the kernel's device-mapper/verity documentation: SHA-256, the salt hashed before the
data, blocks of 4096 bytes, 128 digests per block, root level first. Data and tree share one device,
the tree right after the data, so that root hash, salt and number of blocks describe all of it.
Activating a device is left to `ccinit.kernel.dm` and its callers.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import NewType

from ccinit.errors import FormatError, VerificationError
from ccinit.values import frozen

RootHash = NewType("RootHash", bytes)
Salt = NewType("Salt", bytes)

BLOCK_BYTES = 4096
HASH_BYTES = 32
SALT_BYTES = 32
DIGESTS_PER_BLOCK = BLOCK_BYTES // HASH_BYTES
MAX_DATA_BLOCKS = 1 << 32
"""16 TiB of data; a larger number on a command line is a mistake."""

PANIC_OPTIONS = ("panic_on_corruption", "panic_on_error")
"""For the guest's root: a wrong block, which could be half of an attack, ends the guest."""


@frozen
class VerityParameters:
    """What pins one device's content.

    Attributes:
        root_hash: 32 bytes.
        salt: 32 bytes.
        data_blocks: blocks of 4096 bytes before the tree; at least 2, so that a tree exists.
    """

    root_hash: RootHash
    salt: Salt
    data_blocks: int

    def __post_init__(self) -> None:
        if len(self.root_hash) != HASH_BYTES or len(self.salt) != SALT_BYTES:
            raise FormatError("verity.length", "root hash and salt have 32 bytes each")
        if not 2 <= self.data_blocks <= MAX_DATA_BLOCKS:
            raise FormatError("verity.blocks", f"{self.data_blocks} data blocks")

    @property
    def data_bytes(self) -> int:
        """Size of the data, which is also the tree's offset."""
        return self.data_blocks * BLOCK_BYTES

    @property
    def device_bytes(self) -> int:
        """Size of data and tree together."""
        return self.data_bytes + sum(hash_tree_levels(self.data_blocks)) * BLOCK_BYTES


def hash_tree_levels(data_blocks: int) -> tuple[int, ...]:
    """Return the number of blocks of each level, root level first."""
    levels: list[int] = []
    blocks = data_blocks
    while blocks > 1:
        blocks = -(-blocks // DIGESTS_PER_BLOCK)
        levels.insert(0, blocks)
    return tuple(levels)


def build_hash_tree(data: Iterable[bytes], salt: Salt) -> tuple[VerityParameters, bytes]:
    """Hash `data` and return the parameters and the tree to append to it.

    Args:
        data: the content, in pieces of whole blocks.
        salt: 32 bytes.

    Raises:
        FormatError: `verity.alignment`, a piece is not whole blocks; `verity.blocks`.
    """
    digests = bytearray()
    for piece in data:
        if len(piece) % BLOCK_BYTES:
            raise FormatError("verity.alignment", f"a piece of {len(piece)} bytes")
        view = memoryview(piece)
        for offset in range(0, len(piece), BLOCK_BYTES):
            digests += _hash_block(salt, view[offset : offset + BLOCK_BYTES])
    data_blocks = len(digests) // HASH_BYTES
    levels: list[bytes] = []
    while len(digests) > HASH_BYTES:
        level = bytes(digests) + bytes(-len(digests) % BLOCK_BYTES)
        levels.insert(0, level)
        view = memoryview(level)
        digests = bytearray().join(
            _hash_block(salt, view[offset : offset + BLOCK_BYTES])
            for offset in range(0, len(level), BLOCK_BYTES)
        )
    parameters = VerityParameters(
        root_hash=RootHash(bytes(digests)), salt=salt, data_blocks=data_blocks
    )
    return parameters, b"".join(levels)


def verify_root_block(parameters: VerityParameters, block: bytes) -> bytes:
    """Return the tree's first block if it is the one that the root hash names.

    This identifies a device by reading one block; the kernel verifies the rest as it is read.

    Raises:
        VerificationError: `verity.root`.
    """
    if len(block) != BLOCK_BYTES or _hash_block(parameters.salt, block) != parameters.root_hash:
        raise VerificationError("verity.root", "the tree's first block has another hash")
    return block


def encode_table(
    parameters: VerityParameters, device: str, options: tuple[str, ...] = PANIC_OPTIONS
) -> str:
    """Return the text of a `verity` target whose data and tree are on `device`."""
    fields = [
        "1",
        device,
        device,
        str(BLOCK_BYTES),
        str(BLOCK_BYTES),
        str(parameters.data_blocks),
        str(parameters.data_blocks),
        "sha256",
        parameters.root_hash.hex(),
        parameters.salt.hex(),
    ]
    if options:
        fields += [str(len(options)), *options]
    return " ".join(fields)


def _hash_block(salt: bytes, block: bytes | memoryview) -> bytes:
    return sha256(salt + block).digest()
