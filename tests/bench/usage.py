"""What a command costs besides time: processor time, and memory of all its processes together.

Memory is the sum of their proportional shares (PSS), so that pages which they share count once. A
process that has not yet become its program borrows its parent's memory (vfork), which counts once,
too. Looking takes time itself, so whoever compares times looks at memory in a run of its own.
"""

import ctypes
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_INTERVAL_SECONDS = 0.01
_KIB = 1024
_NR_KCMP, _KCMP_VM = 312, 1
_libc = ctypes.CDLL(None)


@dataclass(slots=True)
class Peak:
    """The largest sums that were seen, in bytes.

    Attributes:
        bytes: of all processes.
        own_bytes: of those that come and go with the command; pages that they share with the
            resident one are still counted in part.
    """

    bytes: int = 0
    own_bytes: int = 0


def processor_seconds() -> float:
    """Return what this process's children that have ended took so far, in user and in system."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def watch_memory(resident: str = "") -> Iterator[Peak]:
    """Look at what this process starts within the block, and at what those start.

    Args:
        resident: an argument by which to know the process that would be there anyway.
    """
    before = _descendants(os.getpid())
    peak, is_over = Peak(), threading.Event()

    def look() -> None:
        while not is_over.wait(_INTERVAL_SECONDS):
            parents = _descendants(os.getpid())
            shares = {
                process: read_pss(process)
                for process in parents.keys() - before.keys()
                if not _borrows_memory(process, parents[process])
            }
            own = sum(share for process, share in shares.items() if not _has(process, resident))
            peak.bytes = max(peak.bytes, sum(shares.values()))
            peak.own_bytes = max(peak.own_bytes, own)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        is_over.set()
        watcher.join()


def _descendants(root: int) -> dict[int, int]:
    """Return the processes below `root`, each with its parent."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):  # it has ended meanwhile
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(after_name[1]), []).append(int(entry.name))
    found: dict[int, int] = {}
    pending = [root]
    while pending:
        parent = pending.pop()
        new = children.get(parent, [])
        found.update(dict.fromkeys(new, parent))
        pending += new
    return found


def _borrows_memory(process: int, parent: int) -> bool:
    """Whether both have one and the same memory (kcmp(2)); errors are ends of processes."""
    return bool(_libc.syscall(_NR_KCMP, process, parent, _KCMP_VM, 0, 0) == 0)


def _has(process: int, argument: str) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        return bool(argument) and argument.encode() in words
    return False


def read_pss(process: int) -> int:
    """Return a process's proportional share in bytes; 0 once it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * _KIB
    return 0
