"""Compose the guest's root: listed programs, their libraries, Python modules, a few text files.

The tree is additive: it starts empty, each file is put there by one rule in this module, and
nothing else is there, so nothing has to be removed, or could be forgotten. The result is a plan in
memory; `write_tree` writes it out for mkfs.erofs (`rootfs_builder.guest_image.erofs`).
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Final

from ccinit.errors import ConfigError
from rootfs_builder.elf import is_elf, parse_elf
from rootfs_builder.file_list import Listed
from rootfs_builder.guest_image.baseline import Member
from rootfs_builder.guest_image.python_modules import SITE, GuestModule
from rootfs_builder.packages.quarry import Quarry

LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
_LOADER_LINK: Final = "usr/lib64/ld-linux-x86-64.so.2"
_EMPTY_FOLDERS: Final = ("dev", "proc", "run", "sys", "tmp")
_LINKS: Final[Mapping[str, str]] = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "sbin": "usr/bin",
    "etc/resolv.conf": "/run/ccinit/resolv.conf",
    "etc/mtab": "/proc/self/mounts",
}
_TEXTS: Final[Mapping[str, str]] = {
    "etc/group": "root:x:0:\n",
    "etc/hostname": "ccinit\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/passwd": "root:x:0:0::/:\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntry:
    """One file or link of a tree; folders, except empty ones, follow from the paths.

    Attributes:
        data: content; for links unused.
        link: target of a symbolic link, empty for files.
        executable: whether the mode is 0755 and not 0644.
    """

    data: bytes = b""
    link: str = ""
    executable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RootTree:
    """A planned tree: entries by path without leading slash, and folders that stay empty."""

    entries: Mapping[str, TreeEntry]
    empty_folders: tuple[str, ...] = ()


def plan_root(
    quarry: Quarry,
    programs: Iterable[Listed],
    modules: Iterable[GuestModule],
    built: datetime,
    files: Iterable[Listed] = (),
) -> RootTree:
    """Return the tree of a guest's root.

    Args:
        quarry: where programs and libraries come from.
        programs: target path, and as option the path in the quarry if it is another.
        modules: all Python files.
        built: the earliest time that a guest may accept.
        files: listed as programs are, but not executable.
    """
    entries = take_listed(quarry, programs, executable=True)
    entries |= take_listed(quarry, files, executable=False)
    entries |= _module_entries(modules)
    entries |= collect_libraries(quarry, entries)
    for path, target in _LINKS.items():
        entries[path] = TreeEntry(link=target)
    for path, text in _TEXTS.items():
        entries[path] = TreeEntry(data=text.encode())
    seconds = int(built.timestamp())
    entries[f"{SITE}/build_time".lstrip("/")] = TreeEntry(data=f"{seconds}\n".encode())
    entries[f"{SITE}/build_id".lstrip("/")] = TreeEntry(data=f"{build_id(entries)}\n".encode())
    return RootTree(entries=dict(sorted(entries.items())), empty_folders=_EMPTY_FOLDERS)


def take_listed(
    quarry: Quarry, listed: Iterable[Listed], *, executable: bool
) -> dict[str, TreeEntry]:
    """Return files of the quarry, each under the name that its list gives it."""
    sources = {entry.name: entry.options[0] if entry.options else entry.name for entry in listed}
    return {
        name: TreeEntry(data=quarry.read(f"/{source}"), executable=executable)
        for name, source in sources.items()
    }


def members_of(tree: RootTree) -> Iterable[Member]:
    """Return what a tree will hold, folders not counted."""
    for path, entry in tree.entries.items():
        if entry.link:
            yield Member(path=path, mode=stat.S_IFLNK | 0o777)
        else:
            mode = stat.S_IFREG | (0o755 if entry.executable else 0o644)
            yield Member(path=path, mode=mode, data=entry.data)


def build_id(entries: Mapping[str, TreeEntry]) -> str:
    """Return 32 hex digits that identify a tree: the build id in a guest's `hello`."""
    digest = hashlib.sha256()
    for path, entry in sorted(entries.items()):
        content = hashlib.sha256(entry.data).hexdigest()
        digest.update(f"{path}\0{entry.link}\0{entry.executable:d}\0{content}\n".encode())
    return digest.hexdigest()[:32]


def plan_interpreter(quarry: Quarry, modules: Iterable[GuestModule]) -> RootTree:
    """Return the tree of stage 0: the interpreter, its libraries, its modules."""
    program = "usr/bin/python3.13"
    entries = {program: TreeEntry(data=quarry.read(f"/{program}"), executable=True)}
    entries |= _module_entries(modules)
    entries |= collect_libraries(quarry, entries)
    entries["lib"] = TreeEntry(link="usr/lib")
    entries["lib64"] = TreeEntry(link="usr/lib64")
    return RootTree(entries=dict(sorted(entries.items())))


def collect_libraries(quarry: Quarry, entries: Mapping[str, TreeEntry]) -> Mapping[str, TreeEntry]:
    """Return the shared libraries and the loader that the ELF files among `entries` need.

    Raises:
        ConfigError: a library is not in the quarry, or a program wants another loader.
    """
    found: dict[str, TreeEntry] = {}
    waiting = [entry.data for entry in entries.values() if is_elf(entry.data)]
    while waiting:
        elf = parse_elf(waiting.pop())
        if elf.interpreter not in {"", f"/{_LOADER_LINK.removeprefix('usr/')}"}:
            raise ConfigError("root.loader", f"unexpected loader {elf.interpreter}")
        names = [*elf.needed, *([PurePosixPath(_LOADER_LINK).name] if elf.interpreter else [])]
        for name in names:
            path = f"{LIBRARIES}/{name}"
            if path in found:
                continue
            data = quarry.read(f"/{path}")
            # The kernel itself opens the loader, and wants it executable.
            is_loader = name == PurePosixPath(_LOADER_LINK).name
            found[path] = TreeEntry(data=data, executable=is_loader)
            waiting.append(data)
    if found:
        target = os.path.relpath(f"{LIBRARIES}/{PurePosixPath(_LOADER_LINK).name}", "usr/lib64")
        found[_LOADER_LINK] = TreeEntry(link=target)
    return found


def folders_of(tree: RootTree) -> tuple[str, ...]:
    """Return every folder of a tree, parents before children."""
    folders: set[str] = set(tree.empty_folders)
    for path in [*tree.entries, *tree.empty_folders]:
        folders.update(str(parent) for parent in PurePosixPath(path).parents)
    return tuple(sorted(folders - {"."}))


def write_tree(tree: RootTree, destination: Path) -> None:
    """Lay a tree out below `destination`, which is emptied first; modes are 0755 and 0644."""
    if destination.exists():
        shutil.rmtree(destination)
    destination.mkdir(parents=True)
    destination.chmod(0o755)
    for folder in folders_of(tree):
        (destination / folder).mkdir()
        (destination / folder).chmod(0o755)
    for path, entry in tree.entries.items():
        target = destination / path
        if entry.link:
            target.symlink_to(entry.link)
        else:
            target.write_bytes(entry.data)
            target.chmod(0o755 if entry.executable else 0o644)


def _module_entries(modules: Iterable[GuestModule]) -> dict[str, TreeEntry]:
    return {
        module.target.lstrip("/"): TreeEntry(data=module.file.read_bytes()) for module in modules
    }
