"""A cgroup from its making to its removal, in folders that behave as the kernel's.

Only as far as it matters here; `tests/integration/host/test_container_cgroup.py` has the kernel's.
"""

import errno
import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime import cgroup
from host_runtime.oci_runtime.cgroup import (
    Hierarchy,
    MemoryNeed,
    make_cgroup,
    remove_cgroup,
    require_room,
)

UNLIMITED = "9999"  # of four digits, as every limit here: a write does not cut a plain file
FILES = {
    "cgroup.procs": "",
    "memory.limit_in_bytes": UNLIMITED,
    "cpuset.cpus": "",
    "cpuset.mems": "",
}
NAMES = ("pod", "a")
NEED = MemoryNeed(guest_bytes=2000)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a hierarchy of version 1. A new folder has files, and they go with it."""
    make, remove = os.mkdir, os.rmdir

    def mkdir(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        make(name, mode, dir_fd=dir_fd)
        folder = os.open(name, os.O_RDONLY, dir_fd=dir_fd)
        for file, text in FILES.items():
            made = os.open(file, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder)
            os.write(made, text.encode())
            os.close(made)
        os.close(folder)

    def rmdir(path: Path) -> None:
        if (path / "cgroup.procs").read_text():
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        if any(entry.is_dir() for entry in path.iterdir()):
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))
        for file in path.iterdir():
            file.unlink()
        remove(path)

    top = tmp_path / "memory"
    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(os, "rmdir", rmdir)
    top.mkdir()
    (top / "cpuset.cpus").write_text("0-3\n")
    (top / "cpuset.mems").write_text("0\n")
    return top


def hierarchies(root: Path) -> tuple[Hierarchy, ...]:
    return (Hierarchy(root=root, is_unified=False, has_memory=True),)


def refusal(root: Path, need: MemoryNeed | None) -> str:
    with pytest.raises(CcinitError) as refused:
        make_cgroup(hierarchies(root), NAMES, need)
    return refused.value.reason


def test_new_folders_are_told_those_below_first(root: Path) -> None:
    assert make_cgroup(hierarchies(root), NAMES, NEED) == (root / "pod/a", root / "pod")
    assert make_cgroup(hierarchies(root), ("pod", "b"), NEED) == (root / "pod/b",)


def test_processors_and_nodes_are_inherited_unless_there_are_some(root: Path) -> None:
    (root / "pod").mkdir()
    (root / "pod/cpuset.cpus").write_text("2\n")
    make_cgroup(hierarchies(root), NAMES, None)
    found = {
        place: [
            (root / place / name).read_text().strip() for name in ("cpuset.cpus", "cpuset.mems")
        ]
        for place in ("pod", "pod/a")
    }
    assert found == {"pod": ["2", "0"], "pod/a": ["2", "0"]}


def test_cgroup_that_cannot_be_used_is_not_left_behind(root: Path) -> None:
    small = MemoryNeed(guest_bytes=2000, limit_bytes=1999)
    assert refusal(root, small) == "cgroup.memory"
    assert not (root / "pod").exists()
    (root / "pod").mkdir()
    assert refusal(root, small) == "cgroup.memory"
    assert (root / "pod").exists()
    assert not (root / "pod/a").exists()


def test_cgroup_above_may_be_too_small_for_a_guest(root: Path) -> None:
    (root / "pod").mkdir()
    (root / "pod/memory.limit_in_bytes").write_text("1999")
    assert refusal(root, NEED) == "cgroup.memory"
    assert not (root / "pod/a").exists()
    (root / "pod/memory.limit_in_bytes").write_text("2000")
    assert make_cgroup(hierarchies(root), NAMES, NEED)


def test_cgroup_that_others_use_is_refused(root: Path) -> None:
    make_cgroup(hierarchies(root), NAMES, NEED)
    (root / "pod/a/below").mkdir()
    assert refusal(root, NEED) == "cgroup.taken"
    (root / "pod/a/below").rmdir()
    (root / "pod/a/cgroup.procs").write_text("17\n")
    assert refusal(root, NEED) == "cgroup.taken"
    (root / "pod/a/cgroup.procs").write_text("")
    assert make_cgroup(hierarchies(root), NAMES, NEED) == ()


def test_folder_of_another_file_system_is_no_cgroup(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cgroup(hierarchies(root), NAMES, None)
    find = os.fstat

    def on_a_device_each(file: int) -> object:
        found = find(file)
        return SimpleNamespace(st_dev=file) if stat.S_ISDIR(found.st_mode) else found

    monkeypatch.setattr(os, "fstat", on_a_device_each)
    assert refusal(root, None) == "cgroup.path"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV])
def test_folder_that_is_removed_meanwhile_is_made_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    make, failures = os.mkdir, [number]

    def fail_once(name: str, mode: int, *, dir_fd: int) -> None:
        if failures:
            raise OSError(failures.pop(), "")
        make(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", fail_once)
    assert make_cgroup(hierarchies(root), NAMES, NEED) == (root / "pod/a", root / "pod")
    failures.append(errno.EACCES)
    with pytest.raises(PermissionError):
        make_cgroup(hierarchies(root), NAMES, NEED)


def test_room_is_required_of_whatever_is_there(root: Path) -> None:
    (hierarchy,) = hierarchies(root)
    assert not require_room(hierarchy, NAMES, NEED)
    make_cgroup((hierarchy,), NAMES, NEED)
    assert require_room(hierarchy, NAMES, NEED)
    (root / "pod/memory.limit_in_bytes").write_text("1999")
    for names in (NAMES, ("pod", "absent")):
        with pytest.raises(CcinitError) as refused:
            require_room(hierarchy, names, NEED)
        assert refused.value.reason == "cgroup.memory"
    assert require_room(hierarchy, NAMES, None)


def test_room_is_required_of_the_limit_that_it_will_have(root: Path) -> None:
    (hierarchy,) = hierarchies(root)
    assert not require_room(hierarchy, NAMES, MemoryNeed(guest_bytes=2000, limit_bytes=2000))
    with pytest.raises(CcinitError) as refused:
        require_room(hierarchy, NAMES, MemoryNeed(guest_bytes=2000, limit_bytes=1999))
    assert refused.value.reason == "cgroup.memory"


def test_room_is_required_where_memory_is_counted(root: Path) -> None:
    (hierarchy,) = hierarchies(root)
    make_cgroup((hierarchy,), NAMES, NEED)
    (root / "pod/a/memory.limit_in_bytes").unlink()
    with pytest.raises(CcinitError) as refused:
        require_room(hierarchy, NAMES, NEED)
    assert refused.value.reason == "cgroup.none"


def test_removal_takes_what_was_made_and_is_in_no_use(root: Path) -> None:
    made = make_cgroup(hierarchies(root), NAMES, NEED)
    make_cgroup(hierarchies(root), ("pod", "b"), NEED)
    remove_cgroup(hierarchies(root), NAMES, made)
    assert [path.name for path in (root / "pod").iterdir() if path.is_dir()] == ["b"]
    (root / "pod/b").rmdir()
    remove_cgroup(hierarchies(root), NAMES, made)  # the first of them is gone
    assert not (root / "pod").exists()


def test_removal_waits_for_processes_that_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_cgroup(hierarchies(root), NAMES, NEED)
    processes = root / "pod/a/cgroup.procs"
    processes.write_text("17\n")
    monkeypatch.setattr(cgroup, "_REMOVE_SECONDS", 0.0)
    with pytest.raises(CcinitError) as refused:
        remove_cgroup(hierarchies(root), NAMES, made)
    assert refused.value.reason == "cgroup.busy"
    monkeypatch.setattr(cgroup, "_REMOVE_SECONDS", 5.0)
    monkeypatch.setattr(time, "sleep", lambda _seconds: processes.write_text(""))
    remove_cgroup(hierarchies(root), NAMES, made)
    assert not (root / "pod").exists()


def test_removal_does_not_wait_for_what_is_below(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_cgroup(hierarchies(root), NAMES, NEED)
    (root / "pod/a/below").mkdir()
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("it waited"))
    with pytest.raises(OSError, match="not empty"):
        remove_cgroup(hierarchies(root), NAMES, made)
