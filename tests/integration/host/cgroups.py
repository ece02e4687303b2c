"""Cgroups of a test's own in each hierarchy of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host_runtime.oci_runtime.cgroup import Hierarchy, find_hierarchies
from tests.integration.leftovers import cgroup_roots
from tests.vm.guest.containers import own_cgroup


def memory_hierarchy() -> Hierarchy:
    """The one that counts memory."""
    (found,) = (one for one in find_hierarchies() if one.has_memory)
    return found


def folders_of(path: str) -> list[Path]:
    """Where a cgroup is, or would be, in each hierarchy."""
    return [one.root / path.removeprefix("/") for one in find_hierarchies()]


def processes_in(path: str) -> set[int]:
    """The processes of a cgroup, which have to be the same in each hierarchy."""
    (found,) = {(folder / "cgroup.procs").read_text() for folder in folders_of(path)}
    return {int(pid) for pid in found.split()}


def is_empty(path: str) -> bool:
    """Whether a cgroup has no process in any hierarchy; one that ends leaves them one by one."""
    return not any((folder / "cgroup.procs").read_text() for folder in folders_of(path))


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
    """Make a cgroup in each hierarchy and yield its path; it goes with what is left below it."""
    path = own_cgroup()
    folders = [root / path[1:] for root in cgroup_roots()]  # a kubelet wants its in each
    for folder in folders:
        folder.mkdir(exist_ok=True)
    try:
        yield path
    finally:
        for folder in folders:
            for one in sorted(folder.glob("**/"), reverse=True):
                one.rmdir()
