"""A volume of debug tools: a shell and what a first look needs, from the tools tree.

The form is that of the volume which the image build publishes; this one takes a second to make and
holds what the demo and the tests run.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from measured_boot.verity import append_hash_tree
from rootfs_builder.erofs import make_erofs
from rootfs_builder.quarry import Quarry
from rootfs_builder.root_tree import RootTree, TreeEntry, collect_libraries, write_tree
from rootfs_builder.tools_tree import ToolsTree

PROGRAMS: Final = ("sh", "cat", "dmesg", "id", "ls", "sleep", "touch")
_LINKS: Final = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"}
_FOLDERS: Final = ("dev", "proc", "run", "sys", "tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugTools:
    """The volume, and the file that describes it to its owner."""

    volume: Path
    description: Path


def make_debug_tools(tools: Path, folder: Path, programs: Iterable[str] = PROGRAMS) -> DebugTools:
    """Make the volume below the new `folder`, of programs of the tools tree at `tools`."""
    folder.mkdir()
    quarry = Quarry(tree=ToolsTree(tools), packages=(), kernel_release="")
    entries = {
        f"usr/bin/{name}": TreeEntry(data=quarry.read(f"/usr/bin/{name}"), executable=True)
        for name in programs
    }
    entries |= collect_libraries(quarry, entries)
    entries |= {path: TreeEntry(link=target) for path, target in _LINKS.items()}
    write_tree(RootTree(entries=entries, empty_folders=_FOLDERS), folder / "tree")
    disk = append_hash_tree(make_erofs(quarry.tree, folder / "tree", folder / "erofs"))
    made = DebugTools(volume=folder / "tools.verity", description=folder / "tools.json")
    made.volume.write_bytes(disk.data)
    value = {
        "root_hash": disk.parameters.root_hash.hex(),
        "salt": disk.parameters.salt.hex(),
        "data_blocks": disk.parameters.data_blocks,
        "size_bytes": len(disk.data),
    }
    made.description.write_text(json.dumps(value))
    return made
