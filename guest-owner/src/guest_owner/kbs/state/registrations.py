"""Folders of the state directory that hold one file for each registration: `NAME.SUFFIX`.

`reference_files` and `store` say which folders there are, and what their files hold.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Generic, TypeVar

from ccinit.errors import ConfigError
from guest_owner.files import (
    PUBLIC_MODE,
    is_file,
    list_folder,
    naming,
    read_capped,
    write_all_atomically,
)

T = TypeVar("T")

MAX_ENTRIES: Final = 1024

# Two changes within one tick of a file system's clock leave equal times; some clocks count seconds.
_SETTLED_NS: Final = 2_000_000_000

# Device, inode, size in bytes, mtime and ctime in ns. No program can set the ctime, and a replaced
# file has another inode.
_Version = tuple[int, int, int, int, int]


class Folder(Generic[T]):
    """One folder, listed afresh each time; an unchanged file is not parsed again."""

    def __init__(
        self, directory: Path, suffix: str, max_bytes: int, parse: Callable[[str, bytes], T]
    ) -> None:
        """Nothing is read yet; the folder need not exist.

        Args:
            directory: the folder.
            suffix: of its files.
            max_bytes: of one file.
            parse: makes an immutable value from a file's name, without its suffix, and content.
        """
        self._directory = directory
        self._suffix = suffix
        self._max_bytes = max_bytes
        self._parse = parse
        self._parsed: dict[str, tuple[_Version, T]] = {}

    def read(self) -> tuple[T, ...]:
        """Return what `parse` makes of each file, in the order of their names.

        Raises:
            ConfigError: `state.entries`, `state.stray`; as `list_folder` and `read_capped`; what
                `parse` says about the form, with the name of the file.
        """
        now_ns = time.time_ns()
        paths = list_folder(self._directory)
        if len(paths) > MAX_ENTRIES:
            raise ConfigError(
                "state.entries", f"more than {MAX_ENTRIES} files in {self._directory}"
            )
        values, parsed = [], {}
        for path in paths:
            if path.suffix != self._suffix:
                raise ConfigError("state.stray", f"{path} is not a {self._suffix} file; remove it")
            version = _version_of(path)  # before reading, so it is never newer than the content
            known = self._parsed.get(path.name)
            entry = known if known and known[0] == version else (version, self._read_one(path))
            if _is_settled(version, now_ns):
                parsed[path.name] = entry
            values.append(entry[1])
        self._parsed = parsed
        return tuple(values)

    def _read_one(self, path: Path) -> T:
        data = read_capped(path, self._max_bytes)
        with naming(path):
            return self._parse(path.stem, data)


def _version_of(path: Path) -> _Version:
    try:
        about = path.stat()
    except OSError as error:
        raise ConfigError("state.read", f"cannot read {path}: {error.strerror}") from error
    identity = about.st_dev, about.st_ino
    return *identity, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _is_settled(version: _Version, now_ns: int) -> bool:
    """Whether any change from now on gives the file another version."""
    return now_ns - version[-1] >= _SETTLED_NS


def is_another(path: Path, data: bytes) -> bool:
    """Whether there is a registration, and it differs from this one.

    Raises:
        ConfigError: `state.read`.
    """
    if not is_file(path):
        return False
    try:
        return path.stat().st_size != len(data) or path.read_bytes() != data
    except OSError as error:
        raise ConfigError("state.read", f"cannot read {path}: {error.strerror}") from error


def write_registrations(root: Path, files: Mapping[str, bytes]) -> None:
    """Write registrations, replacing those of the same names; the caller holds the state's lock.

    Args:
        root: the state directory.
        files: contents by path below it; nothing is written unless there is room for all.

    Raises:
        ConfigError: `state.entries`, a folder would then hold too many to be read; as
            `write_all_atomically`.
    """
    fresh = Counter((root / file).parent for file in files if not is_file(root / file))
    for folder, more in fresh.items():
        if len(list_folder(folder)) + more > MAX_ENTRIES:
            detail = (
                f"{folder} has room for {MAX_ENTRIES} files: remove what is not needed any more"
            )
            raise ConfigError("state.entries", detail)
    write_all_atomically({root / file: data for file, data in files.items()}, mode=PUBLIC_MODE)
