"""Writes initramfs archives (newc; Linux documentation, early-userspace/buffer-format)."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


class CpioWriter:
    """One archive; everything in it belongs to root and keeps the time of its source."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inode = 0
        self._names: set[str] = set()

    def add_file(self, name: str, source: Path, mode: int | None = None) -> None:
        """Add a file or symbolic link at absolute path `name`; parents come by themselves."""
        status = source.lstat()
        if stat.S_ISLNK(status.st_mode):
            self.add_link(name, str(source.readlink()))
            return
        kind = stat.S_IFREG | (mode if mode is not None else status.st_mode & 0o755)
        self._add(name, kind, source.read_bytes(), int(status.st_mtime))

    def add_data(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file with given content."""
        self._add(name, stat.S_IFREG | mode, data)

    def add_link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def add_directory(self, name: str) -> None:
        """Add an empty directory."""
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def add_device(self, name: str, major: int, minor: int) -> None:
        """Add a character device node."""
        self._add(name, stat.S_IFCHR | 0o666, b"", device=(major, minor))

    def add_tree(self, name: str, source: Path) -> None:
        """Add all files below a directory, without compiled Python of other interpreters."""
        for directory, directories, files in os.walk(source):
            directories.sort()
            inside = f"{name}/{Path(directory).relative_to(source)}".removesuffix("/.")
            self.add_directory(inside)
            for file in sorted(files):
                self.add_file(f"{inside}/{file}", Path(directory) / file)

    def finish(self) -> None:
        """Write the trailer."""
        self._add(_TRAILER, 0, b"")

    def _add(
        self,
        name: str,
        mode: int,
        data: bytes,
        mtime: int = 0,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        name = name.lstrip("/")
        if name in self._names:
            return
        parent = name.rpartition("/")[0]
        if parent and parent not in self._names:
            self._add(parent, stat.S_IFDIR | 0o755, b"")
        self._names.add(name)
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, mtime, len(data), 0, 0, *device, len(encoded), 0)
        header = _MAGIC + b"".join(b"%08x" % field for field in fields) + encoded
        self._file.write(header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4))
