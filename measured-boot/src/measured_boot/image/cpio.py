"""Write `newc` cpio archives, the form in which the kernel takes an initramfs.

The bytes depend on the entries alone: owner 0:0, time 0, inode numbers in entry order. So two
builds of one tree are identical. The caller chooses the files and the compression.

Specification: Linux `Documentation/driver-api/early-userspace/buffer-format.rst` (magic 070701).
"""

import stat
from collections.abc import Iterable
from dataclasses import dataclass

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CpioEntry:
    """One member of an archive.

    Attributes:
        path: relative, no leading slash; parents must come first in the archive, because the kernel
            does not make them.
        mode: type and permission bits as in `st_mode`.
        data: content of a file, target of a symbolic link, empty for all else.
        device: major and minor number of a device node.
    """

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str) -> CpioEntry:
    """Return the entry of a directory, 0755."""
    return CpioEntry(path=path, mode=stat.S_IFDIR | 0o755)


def regular_file(path: str, data: bytes, permissions: int = 0o644) -> CpioEntry:
    """Return the entry of a regular file."""
    return CpioEntry(path=path, mode=stat.S_IFREG | permissions, data=data)


def symbolic_link(path: str, target: str) -> CpioEntry:
    """Return the entry of a symbolic link."""
    return CpioEntry(path=path, mode=stat.S_IFLNK | 0o777, data=target.encode())


def character_device(path: str, major: int, minor: int, permissions: int) -> CpioEntry:
    """Return the entry of a character device node."""
    return CpioEntry(path=path, mode=stat.S_IFCHR | permissions, device=(major, minor))


def encode_cpio(entries: Iterable[CpioEntry]) -> bytes:
    """Return the archive of these entries, in this order, with its trailer.

    Raises:
        ValueError: a path is not relative and plain, comes twice, or before its directory.
    """
    archive = bytearray()
    directories = {""}
    seen: set[str] = set()
    for inode, entry in enumerate(entries, start=1):
        _require_orderly(entry.path, seen, directories)
        seen.add(entry.path)
        if stat.S_ISDIR(entry.mode):
            directories.add(entry.path)
        _append(archive, entry, inode)
    _append(archive, CpioEntry(path=_TRAILER, mode=0), 0)
    return bytes(archive)


def _require_orderly(path: str, seen: set[str], directories: set[str]) -> None:
    parts = path.split("/")
    if not path.isascii() or any(part in {"", ".", ".."} for part in parts) or path == _TRAILER:
        raise ValueError(f"not a plain relative path: {path!r}")
    if path in seen:
        raise ValueError(f"second entry of the same path: {path!r}")
    if "/".join(parts[:-1]) not in directories:
        raise ValueError(f"entry before its directory: {path!r}")


def _append(archive: bytearray, entry: CpioEntry, inode: int) -> None:
    name = entry.path.encode("ascii") + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        links,
        0,  # mtime
        len(entry.data),
        0,  # major of the device the file lay on
        0,  # minor of it
        *entry.device,
        len(name),
        0,  # checksum: only the 070702 form has one
    )
    archive += _MAGIC + b"".join(b"%08X" % field for field in fields) + name
    _pad(archive)
    archive += entry.data
    _pad(archive)


def _pad(archive: bytearray) -> None:
    archive += bytes(-len(archive) % _ALIGNMENT)
