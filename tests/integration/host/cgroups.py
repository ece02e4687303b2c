"""Cgroups of a test's own in each hierarchy of this machine."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host_runtime.oci_runtime.cgroup import Hierarchy, find_hierarchies
from tests.integration.leftovers import cgroup_roots
from tests.vm.guest.containers import own_cgroup

SECONDS = 30.0


def memory_hierarchy() -> Hierarchy:
    """The one that counts memory."""
    (found,) = (one for one in find_hierarchies() if one.has_memory)
    return found


def folders_of(path: str) -> list[Path]:
    """Where a cgroup is, or would be, in each hierarchy."""
    return [one.root / path.removeprefix("/") for one in find_hierarchies()]


def processes_in(path: str) -> set[int]:
    """The processes of a cgroup, which have to be the same in each hierarchy.

    One that ends meanwhile is in those that are read first, and in the others no more.
    """
    end = time.monotonic() + SECONDS
    while True:
        found = {(folder / "cgroup.procs").read_text() for folder in folders_of(path)}
        if len(found) == 1:
            return {int(pid) for pid in found.pop().split()}
        assert time.monotonic() < end, found


def wait_until_empty(path: str) -> None:
    """Wait until a cgroup has no process any more."""
    end = time.monotonic() + SECONDS
    while processes_in(path):
        assert time.monotonic() < end
        time.sleep(0.1)


def bytes_in(path: str) -> int:
    """How much memory a cgroup counts, with those below it."""
    one = memory_hierarchy()
    name = "memory.current" if one.is_unified else "memory.usage_in_bytes"
    return int((one.root / path.removeprefix("/") / name).read_text())


def limit_in(path: str) -> Path:
    """The file of a cgroup's limit of memory."""
    one = memory_hierarchy()
    return one.root / path.removeprefix("/") / one.limit_file


@contextmanager
def made_cgroup() -> Iterator[str]:
    """Make a cgroup in each hierarchy and yield its path; it goes with what is left below it.

    Unlike a pod's PID 1, this process shares its PID namespace with others that run tests.
    """
    path = f"{own_cgroup()}-{os.getpid()}"
    folders = [root / path[1:] for root in cgroup_roots()]  # a kubelet wants its in each
    for folder in folders:
        folder.mkdir()
    try:
        yield path
    finally:
        for folder in folders:
            for one in sorted(folder.glob("**/"), reverse=True):
                one.rmdir()
