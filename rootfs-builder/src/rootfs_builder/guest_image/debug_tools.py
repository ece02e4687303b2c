"""Make the volume with tools for debugging, which is in no image.

    ccinit-debug-tools.verity    erofs in whole blocks, then its hash tree; no superblock
    ccinit-debug-tools.json      root_hash, salt, data_blocks, size_bytes: what opens it

It is a verity volume as in docs/storage.md. The owner names its root hash in a debug grant; a guest
without such a grant never opens it. The bytes depend only on the list and the packages, and are the
same for both profiles.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.disk.verity import Salt
from ccinit.formats.encoding.fields import Fields
from measured_boot.image.verity import VerityDisk, append_hash_tree
from rootfs_builder.exclusive import exclusive
from rootfs_builder.file_list import Listed, read_listed
from rootfs_builder.guest_image.erofs import make_erofs
from rootfs_builder.guest_image.inputs import digest_inputs
from rootfs_builder.guest_image.place import put_in_place
from rootfs_builder.guest_image.report import describe_file
from rootfs_builder.guest_image.root_tree import (
    RootTree,
    TreeEntry,
    collect_libraries,
    take_listed,
    write_tree,
)
from rootfs_builder.packages.quarry import Quarry
from rootfs_builder.packages.source import PackageSource, read_lock
from rootfs_builder.workspace import DEBUG_TOOLS_LIST, Workspace

VOLUME: Final = "ccinit-debug-tools.verity"
DESCRIPTION: Final = "ccinit-debug-tools.json"
TOOLS_SALT: Final = Salt(sha256(b"ccinit/debug-tools-salt/v1").digest())
"""A constant, as that of the root: the volume is public."""

_MAX_DIFFERENCES: Final = 4096  # of packages from the locked ones
_PROGRAM_FOLDER: Final = "usr/bin/"
_MOUNT_POINTS: Final = ("dev", "mnt", "proc", "root", "run", "sys", "tmp")
_LINKS: Final = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/bin"}
_TEXTS: Final = {
    "etc/group": "root:x:0:\n",
    "etc/passwd": "root:x:0:0::/root:/bin/bash\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugToolsBuild:
    """One call of the builder.

    Attributes:
        packages: where they come from, and which are acceptable.
        output: folder for published files.
    """

    packages: PackageSource
    output: Path

    def run(self) -> None:
        """Make the volume and its description unless they are up to date.

        Raises:
            ConfigError: as for `PackageSource.open`; a listed file is missing; a tool failed.
        """
        with exclusive(self.packages.workspace.image_lock, self.packages.progress):
            inputs = digest_tools_inputs(self.packages.workspace)
            differences = self._read_current(inputs)
            if differences is None:
                self._build(inputs)
            else:
                self.packages.progress.say("debug tools: up to date")
                self.packages.judge(differences)

    @property
    def _record(self) -> Path:
        """What was built from which inputs; not published, to keep the description free of it."""
        return self.packages.workspace.staging / "debug-tools.record.json"

    def _read_current(self, inputs: str) -> tuple[str, ...] | None:
        paths = [self.output / name for name in (VOLUME, DESCRIPTION)]
        try:
            with Fields(json.loads(self._record.read_text()), "debug_tools.record") as fields:
                made_of, files = fields.text("inputs"), fields.value("files")
                differences = fields.texts("differences", max_items=_MAX_DIFFERENCES)
        except (OSError, ValueError, RecursionError, FormatError):  # cut, or another version's
            return None
        if made_of != inputs or not all(path.is_file() for path in paths):
            return None
        if files != {path.name: describe_file(path) for path in paths}:
            return None
        return differences

    def _build(self, inputs: str) -> None:
        workspace = self.packages.workspace
        quarry, differences = self.packages.open(read_lock(workspace))
        tree = plan_tools(quarry, read_listed(workspace.lists / DEBUG_TOOLS_LIST))
        self.packages.progress.say(f"debug tools: compressing {len(tree.entries)} files")
        folder = workspace.staging / "debug-tools"
        write_tree(tree, folder)
        image = make_erofs(quarry.tree, folder, folder.with_suffix(".erofs"))
        disk = append_hash_tree(image, TOOLS_SALT)
        self._record.unlink(missing_ok=True)
        contents = {VOLUME: disk.data, DESCRIPTION: encode_description(disk)}
        for name, data in contents.items():
            (workspace.staging / name).write_bytes(data)
        put_in_place([workspace.staging / name for name in contents], self.output)
        record = {
            "inputs": inputs,
            "differences": differences,
            "files": {name: describe_file(self.output / name) for name in contents},
        }
        self._record.write_text(json.dumps(record))


def plan_tools(quarry: Quarry, listed: Iterable[Listed]) -> RootTree:
    """Return the tree of the volume: a root by itself, with places to mount a guest's folders.

    Args:
        quarry: where programs and libraries come from.
        listed: target path, and as option the path in the quarry if it is another; what lies below
            `usr/bin` is a program.
    """
    entries = tuple(listed)
    programs = [entry for entry in entries if entry.name.startswith(_PROGRAM_FOLDER)]
    files = [entry for entry in entries if not entry.name.startswith(_PROGRAM_FOLDER)]
    tree = take_listed(quarry, programs, executable=True)
    tree |= take_listed(quarry, files, executable=False)
    tree |= collect_libraries(quarry, tree)
    tree |= {path: TreeEntry(link=target) for path, target in _LINKS.items()}
    tree |= {path: TreeEntry(data=text.encode()) for path, text in _TEXTS.items()}
    return RootTree(entries=dict(sorted(tree.items())), empty_folders=_MOUNT_POINTS)


def encode_description(disk: VerityDisk) -> bytes:
    """Return what a guest or an owner has to know of the volume, as JSON."""
    value = {
        "root_hash": disk.parameters.root_hash.hex(),
        "salt": disk.parameters.salt.hex(),
        "data_blocks": disk.parameters.data_blocks,
        "size_bytes": len(disk.data),
    }
    return json.dumps(value, indent=1).encode() + b"\n"


def digest_tools_inputs(workspace: Workspace) -> str:
    """Return one digest over everything that decides the volume."""
    files = {workspace.package_lock, workspace.lists / DEBUG_TOOLS_LIST, *workspace.configuration()}
    return digest_inputs(workspace, "debug-tools", files, (__name__,))
