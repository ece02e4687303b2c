"""Keys that are made on first use: once, whoever else is making them."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from measured_boot.command_line.files import write_whole
from rootfs_builder.exclusive import exclusive
from rootfs_builder.progress import Progress

_SECRET_MODE: Final = 0o600


def make_key_once(path: Path, lock: Path, progress: Progress, make: Callable[[], bytes]) -> None:
    """Write a key to `path`, readable by its owner only, if nothing is there.

    Of two that make it at the same time one would go on with a key that the other replaces.

    Args:
        path: where it is to be; folders above it are made.
        lock: file that is held meanwhile; it stays, empty.
        progress: where to say that somebody else is at it.
        make: gives the file's content.
    """
    with exclusive(lock, progress):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, make(), _SECRET_MODE)
