"""Let one process at a time build: others wait, and then find the work done already."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rootfs_builder.progress import Progress


@contextmanager
def exclusive(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file at `path`; its folder is made. The kernel frees it if we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"waiting for another build to finish ({path.name})")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
