"""Make the root's file system image.

The bytes depend only on the tree and the version of mkfs.erofs, which the lock fixes: one worker,
fixed identity and dates, owner root. `measured_boot.image.verity` adds the hash tree.
"""

from pathlib import Path
from typing import Final

from rootfs_builder.tools_tree import ToolsTree

IDENTITY: Final = "cc111700-0000-4000-8000-000000000001"
_COMPRESSION: Final = ("-zlz4hc,12", "-C32768", "-Eztailpacking")


def erofs_command(tree: Path, image: Path) -> tuple[str, ...]:
    """Return the command that turns the folder `tree` into `image`."""
    return (
        *("mkfs.erofs", "--quiet", "--workers=1", "--all-root", "-x-1"),
        *(f"-U{IDENTITY}", "-T0", "-Lccinit"),
        *_COMPRESSION,
        *(str(image), str(tree)),
    )


def make_erofs(quarry: ToolsTree, tree: Path, image: Path) -> bytes:
    """Make the image file and return its content.

    Raises:
        ConfigError: mkfs.erofs failed.
    """
    image.unlink(missing_ok=True)
    quarry.run(erofs_command(tree, image), directories=(tree.parent, image.parent))
    return image.read_bytes()
