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

    Without the lock, two processes could both make one, and one go on with a key that is replaced.

    Args:
        path: where it is to be; folders above it are made.
        lock: file that is held meanwhile; it stays, empty.
        progress: where to say that another process is making it.
        make: returns the file's content.
    """
    with exclusive(lock, progress):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, make(), _SECRET_MODE)
