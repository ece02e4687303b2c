"""Put a dm-verity hash tree behind a root image, so that one file is the whole disk.

The layout is the one that the guest opens by its command line: data, then the tree, no superblock
and no partition table. The tree itself is `ccinit.formats.disk.verity`, which the guest shares; the
guest activates it (`ccinit.init.stage0`).
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from ccinit.formats.disk.verity import (
    BLOCK_BYTES,
    Salt,
    VerityParameters,
    build_hash_tree,
)

ROOT_SALT: Final = Salt(hashlib.sha256(b"ccinit/root-salt/v1").digest())
"""A constant: the root is public, and its salt must not change between builds of one tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerityDisk:
    """A disk that verifies as `parameters` say.

    Attributes:
        parameters: what the guest's command line has to name.
        data: the image padded to whole blocks, then its tree.
    """

    parameters: VerityParameters
    data: bytes


def append_hash_tree(image: bytes, salt: Salt = ROOT_SALT) -> VerityDisk:
    """Return the disk for a file system image of at least two blocks.

    Raises:
        FormatError: the image is too small for a tree.
    """
    padded = image + bytes(-len(image) % BLOCK_BYTES)
    parameters, tree = build_hash_tree((padded,), salt)
    return VerityDisk(parameters=parameters, data=padded + tree)
