"""Read an erofs image: its superblock is parsed here, its files are extracted by fsck.erofs.

Specification: Linux `fs/erofs/erofs_fs.h` (struct erofs_super_block).
"""

import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ccinit.errors import FormatError
from rootfs_builder.tools_tree import ToolsTree

_OFFSET: Final = 1024
_MAGIC: Final = 0xE0F5E1E2
_SUPERBLOCK: Final = struct.Struct("<IIIBBHQQIIII16s16sI")
_NAMES: Final = (
    *("magic", "checksum", "compatible features", "block size", "extension slots", "root inode"),
    *("number of inodes", "build time", "build time, nanoseconds", "blocks"),
    *("metadata block", "xattr block", "identity", "volume name", "incompatible features"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErofsFile:
    """One inode of an image, as it is after extraction.

    Attributes:
        mode: as in `st_mode`.
        owner: user and group id.
        modified: seconds.
        data: content of a file, target of a link.
    """

    mode: int
    owner: tuple[int, int]
    modified: int
    data: bytes = b""


def read_erofs(tools: ToolsTree, image: bytes) -> Mapping[str, ErofsFile]:
    """Return every inode of an image by its path; needs root, so that owners survive.

    Raises:
        ConfigError: `tools.fsck.erofs`, the image is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="ccinit-erofs-") as name:
        folder = Path(name)
        (folder / "image").write_bytes(image)
        extract = ("fsck.erofs", f"--extract={folder}/tree", "--preserve", folder / "image")
        tools.run(extract, directories=(folder,))
        return read_tree(folder / "tree")


def read_tree(root: Path) -> Mapping[str, ErofsFile]:
    """Return every inode below a folder by its path."""
    files = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        data = b""
        if path.is_symlink():
            data = str(path.readlink()).encode()
        elif path.is_file():
            data = path.read_bytes()
        files[str(path.relative_to(root))] = ErofsFile(
            mode=status.st_mode,
            owner=(status.st_uid, status.st_gid),
            modified=int(status.st_mtime),
            data=data,
        )
    return files


def read_superblock(image: bytes) -> Mapping[str, Any]:
    """Return the fields of a superblock by their names.

    Raises:
        FormatError: `erofs.superblock`, there is none.
    """
    if len(image) < _OFFSET + _SUPERBLOCK.size:
        raise FormatError("erofs.superblock", "the image is too short")
    values = _SUPERBLOCK.unpack_from(image, _OFFSET)
    if values[0] != _MAGIC:
        raise FormatError("erofs.superblock", "not an erofs image")
    fields = dict(zip(_NAMES, values, strict=True))
    fields["block size"] = 1 << values[3]
    return fields


def data_bytes(image: bytes) -> int:
    """Return how many bytes the file system itself has; what follows is its hash tree."""
    fields = read_superblock(image)
    return int(fields["blocks"] * fields["block size"])
