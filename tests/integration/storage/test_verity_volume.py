"""The recipe of docs/storage.md for verity volumes, made with the tools that owners have."""

import os
import re
from pathlib import Path

from ccinit.formats.disk.verity import (
    BLOCK_BYTES,
    RootHash,
    Salt,
    VerityParameters,
    verify_root_block,
)
from rootfs_builder.tools_tree import ToolsTree

TREE = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")))
SALT = bytes(range(32))


def test_volume_made_by_the_recipe_has_the_root_that_is_printed(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/model").write_bytes(bytes(range(256)) * 8192)
    image = tmp_path / "model.img"
    TREE.run(("mkfs.erofs", image, tmp_path / "tree"), directories=(tmp_path,))
    blocks = image.stat().st_size // BLOCK_BYTES
    printed = TREE.run(
        (
            *("veritysetup", "format", "--no-superblock", f"--salt={SALT.hex()}"),
            *(f"--data-blocks={blocks}", f"--hash-offset={blocks * BLOCK_BYTES}", image, image),
        ),
        directories=(tmp_path,),
    ).decode()
    (root,) = re.findall(r"^Root hash:\s+([0-9a-f]{64})$", printed, re.MULTILINE)
    parameters = VerityParameters(
        root_hash=RootHash(bytes.fromhex(root)), salt=Salt(SALT), data_blocks=blocks
    )
    content = image.read_bytes()
    assert len(content) == parameters.device_bytes
    verify_root_block(parameters, content[parameters.data_bytes :][:BLOCK_BYTES])
