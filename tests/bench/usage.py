"""What a command costs besides time: processor time, and memory of all its processes together.

Memory is the sum of their proportional shares (PSS), so that pages which they share count once.
Looking takes time itself, so whoever compares times looks at memory in a run of its own.
"""

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_INTERVAL_SECONDS = 0.01
_KIB = 1024


@dataclass(slots=True)
class Peak:
    """The largest sum that was seen, in bytes."""

    bytes: int = 0


def processor_seconds() -> float:
    """Return what this process's children that have ended took so far, in user and in system."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def watch_memory() -> Iterator[Peak]:
    """Look at what this process starts within the block, and at what those start."""
    before = _descendants(os.getpid())
    peak, is_over = Peak(), threading.Event()

    def look() -> None:
        while not is_over.wait(_INTERVAL_SECONDS):
            started = _descendants(os.getpid()) - before
            peak.bytes = max(peak.bytes, sum(map(_share, started)))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        is_over.set()
        watcher.join()


def _descendants(root: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):  # it has ended meanwhile
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(after_name[1]), []).append(int(entry.name))
    found: set[int] = set()
    pending = [root]
    while pending:
        new = children.get(pending.pop(), [])
        found.update(new)
        pending += new
    return found


def _share(process: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * _KIB
    return 0
