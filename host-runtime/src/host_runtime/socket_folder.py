"""A short-lived private folder for Unix sockets: their paths must stay below 108 bytes."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_socket_folder() -> Iterator[Path]:
    """Give a new folder that only this user can enter; it is removed with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="ccinit-", dir=os.environ.get("XDG_RUNTIME_DIR")))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
