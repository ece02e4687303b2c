"""How soon the host's kernel ends a guest where memory is short: what an engine says of it.

Specification: proc_pid_oom_score_adj(5).
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from host_runtime.oci_runtime.container import FILE_MODE, Container
from measured_boot.command_line.files import write_whole

_NAME: Final = "oom_score_adj"
_LOWEST: Final = "oom-score-adj"
"""File of a sandbox: the lowest score that its containers' bundles have named."""


def take_oom_score(value: int) -> None:
    """Take a score for this process, and so for what it starts.

    Raises:
        OSError: it is lower than the one before, and this process lacks CAP_SYS_RESOURCE.
    """
    Path("/proc/self", _NAME).write_text(str(value))


def give_oom_score(sandbox: Container, value: int) -> None:
    """Let the guest of a locked sandbox have the score of a container, if it is the lowest one.

    An engine's score of the sandbox is meant for a process that only waits: containerd says -998
    of each, and QEMU has all of the pod's memory. So the first container's takes its place.

    Raises:
        OSError: as `take_oom_score`.
    """
    file = sandbox.folder / _LOWEST
    with suppress(FileNotFoundError):
        value = min(value, int(file.read_text()))
    write_whole(file, str(value).encode(), FILE_MODE)
    life = sandbox.record().pid
    for folder in _processes_of(life):
        try:
            # Leave out a process that has ended meanwhile, and another that has its number now.
            with suppress(FileNotFoundError, ProcessLookupError):
                if sandbox.is_alive() and life in _family_of(folder):
                    _write(folder, value)
        finally:
            os.close(folder)


def _processes_of(life: int) -> Iterator[int]:
    """Open the folders in /proc of a life and of its children, which are its machine."""
    pids = [str(life)]
    for path in Path(f"/proc/{life}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            pids += path.read_text().split()
    for pid in pids:
        with suppress(FileNotFoundError):
            yield os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _family_of(folder: int) -> tuple[int, int]:
    """Return the ids of a process and of its parent."""
    with os.fdopen(os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)) as file:
        text = file.read()
    parent = text.rpartition(")")[2].split()[1]
    return int(text.split(maxsplit=1)[0]), int(parent)


def _write(folder: int, value: int) -> None:
    descriptor = os.open(_NAME, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
