"""A short-lived private folder for Unix sockets: their paths must stay below 108 bytes.

Whoever makes the next one removes those of killed processes (`locked_folder`).
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from host_runtime.programs.locked_folder import locked_folder

_PREFIX: Final = "ccinit-run-"


@contextmanager
def open_socket_folder() -> Iterator[Path]:
    """Yield a new folder that only this user can enter; it is removed with its content.

    Raises:
        ConfigError: `sockets.folder`: others could put a folder of theirs in its place.
    """
    parent = _runtime_folder() or Path(tempfile.gettempdir())
    _require_kept(parent)
    with locked_folder(parent, _PREFIX) as folder:
        yield folder


def _runtime_folder() -> Path | None:
    """Return XDG_RUNTIME_DIR, if it exists and is this user's.

    After `su` or `sudo` it may belong to the previous user, who could put sockets there, and it
    disappears once that user has logged out, while what they started goes on.
    """
    folder = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if not folder.is_absolute() or not folder.is_dir():
        return None
    return folder if folder.stat().st_uid == os.geteuid() else None


def _require_kept(parent: Path) -> None:
    """Refuse a folder in which other users may rename our files."""
    status = parent.stat()
    if status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & stat.S_IWOTH or status.st_uid not in {0, os.geteuid()}:
        raise ConfigError(
            "sockets.folder",
            f"{parent}: others may replace what is in it: name another by TMPDIR",
        )
