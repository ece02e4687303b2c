"""Ends processes whose ids nobody knows any more, by a file that they have inherited.

A machine that outlives its life can be found only by the lock that it holds. The link in /proc is
read before the file is touched: another program's descriptor may be on a server that is gone.
Specification: proc_pid_fd(5), pidfd_open(2).
"""

import os
import signal
from contextlib import suppress
from pathlib import Path


def kill_holders(path: Path) -> None:
    """Kill every other process that has this very file open, as far as this user may see them."""
    with suppress(FileNotFoundError):
        held, name = path.stat(), os.path.realpath(path)
        for process in Path("/proc").iterdir():
            if process.name.isdecimal() and int(process.name) != os.getpid():
                with suppress(OSError):  # it ends meanwhile, or is another user's
                    _kill_holder(process, held, name)


def _kill_holder(process: Path, held: os.stat_result, name: str) -> None:
    descriptor = os.pidfd_open(int(process.name))  # first: the number may be another's later
    try:
        if _has_open(process, held, name):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def _has_open(process: Path, held: os.stat_result, name: str) -> bool:
    for entry in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.fspath(entry.readlink()) == name and os.path.samestat(entry.stat(), held):
                return True
    return False
