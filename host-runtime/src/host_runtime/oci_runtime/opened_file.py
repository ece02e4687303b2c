"""Opening files without a race between the check of a path and its use.

Anybody who can write below an allowed folder can replace a file by a link at any time. So a file is
first opened with O_PATH, which does not touch it, and then checked by its descriptor. A process
that inherits the descriptor reopens the very same file through it. `open(2)`, `proc(5)`.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError

_DESCRIPTOR: Final = re.compile(r"/proc/self/fd/([0-9]{1,9})")


@contextmanager
def opened_inside(path: Path, folders: Sequence[Path]) -> Iterator[int]:
    """Yield a descriptor (O_PATH) of a regular file that lies below one of `folders`.

    Raises:
        ConfigError: `annotation.folder`: it lies elsewhere; `annotation.file`: it is not a regular
            file.
        OSError: it does not exist.
    """
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _require_allowed(descriptor, path, folders)
        yield descriptor
    finally:
        os.close(descriptor)


def open_regular(path: Path, reason: str) -> int:
    """Open a regular file for reading, without waiting for a pipe or touching a device.

    Raises:
        ConfigError: `reason`, it is not a regular file.
        OSError: with its name, it cannot be opened.
    """
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise ConfigError(reason, f"{path} is not a regular file")
            return os.open(descriptor_path(found), os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(found)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_regular(path: Path, max_bytes: int, reason: str) -> bytes:
    """Return a regular file's content, at most one byte more than `max_bytes`.

    Raises:
        ConfigError, OSError: as `open_regular`.
    """
    try:
        with os.fdopen(open_regular(path, reason), "rb") as file:
            return file.read(max_bytes + 1)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def descriptor_path(descriptor: int) -> Path:
    """Return the path by which a process that has the descriptor reaches the open file."""
    return Path(f"/proc/self/fd/{descriptor}")


def name_descriptors(text: str) -> str:
    """Return a text of QEMU's with file names in place of our descriptors' paths."""

    def name(found: re.Match[str]) -> str:
        try:
            return str(descriptor_path(int(found[1])).readlink())
        except OSError:  # not ours
            return found[0]

    return _DESCRIPTOR.sub(name, text)


def _require_allowed(descriptor: int, path: Path, folders: Sequence[Path]) -> None:
    real = descriptor_path(descriptor).readlink()
    if not any(real.is_relative_to(folder.resolve()) for folder in folders):
        raise ConfigError(
            "annotation.folder",
            f"{path} leads to {real}, which is not below one of [allow].folders",
        )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise ConfigError("annotation.file", f"{real} is not a regular file")
