"""The store in memory: how large it may be, and what it is mounted with."""

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases import memory_store
from ccinit.agent.phases.memory_store import (
    close_memory_store,
    count_used,
    mount_options,
    open_memory_store,
    verify_store,
)
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.agent.processes.running_child import RunningChild
from ccinit.errors import CcinitError, KernelError
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.mount import MountFlag

GIB = 1 << 30


def test_store_leaves_half_of_the_memory_to_the_pod() -> None:
    verify_store(GIB, 2 * GIB)
    with pytest.raises(CcinitError) as refused:
        verify_store(GIB + 1, 2 * GIB)
    assert refused.value.reason == "store.memory"


def test_store_is_bounded_in_bytes_and_files_and_never_swapped() -> None:
    assert mount_options(GIB) == "mode=0711,size=1073741824,nr_inodes=65536,noswap"


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    mounts: list[tuple[object, ...]] = []
    monkeypatch.setattr(memory_store, "mount", lambda *arguments: mounts.append(arguments))
    monkeypatch.setattr(memory_store, "read_memory", lambda: {"MemAvailable": 2 * GIB})
    return mounts


def guest() -> Any:
    undo: list[str] = []
    return SimpleNamespace(
        teardown=SimpleNamespace(push=lambda name, _undo: undo.append(name)),
        children=SimpleNamespace(store_bytes=0),
        undo=undo,
    )


def test_children_that_store_get_its_size_on_top(
    tmp_path: Path, mounts: list[tuple[object, ...]]
) -> None:
    made = guest()
    path = str(tmp_path / "store")
    assert open_memory_store(made, GIB, path) == path
    assert made.children.store_bytes == GIB
    assert made.undo == ["store in memory"]
    flags = MountFlag.NODEV | MountFlag.NOSUID
    assert mounts == [("tmpfs", path, "tmpfs", flags, mount_options(GIB))]


def test_directory_of_the_store_is_entered_by_children_and_listed_by_nobody(
    tmp_path: Path, mounts: list[tuple[object, ...]]
) -> None:
    path = tmp_path / "store"
    open_memory_store(guest(), GIB, str(path))
    assert len(mounts) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o711


def test_store_that_is_too_large_is_refused_before_it_is_mounted(
    tmp_path: Path, mounts: list[tuple[object, ...]]
) -> None:
    made = guest()
    with pytest.raises(CcinitError) as refused:
        open_memory_store(made, GIB + 1, str(tmp_path / "store"))
    assert refused.value.reason == "store.memory"
    assert (mounts, made.undo, made.children.store_bytes) == ([], [], 0)
    assert list(tmp_path.iterdir()) == []


def test_used_and_free_bytes_are_counted_in_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    def statvfs(path: str) -> SimpleNamespace:
        assert path == "/store"
        return SimpleNamespace(f_bsize=1 << 20, f_frsize=4096, f_blocks=10, f_bfree=7, f_bavail=6)

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert count_used("/store") == (3 * 4096, 7 * 4096)


def test_store_that_cannot_be_asked_is_the_kernels_refusal(tmp_path: Path) -> None:
    assert count_used(str(tmp_path))[0] > 0
    with pytest.raises(KernelError) as refused:
        count_used(str(tmp_path / "gone"))
    assert (refused.value.reason, refused.value.errno) == ("kernel.statvfs", errno.ENOENT)


class Group:
    """A cgroup that notes its limit."""

    def __init__(self) -> None:
        self.max_bytes: int | None = 0

    def create(self, _name: str) -> "Group":
        return self

    def set_memory(self, *, max_bytes: int | None = None) -> None:
        self.max_bytes = max_bytes

    def set_processes(self, _max_count: int) -> None:
        """Not looked at."""

    def add(self, _pid: int) -> None:
        """Not looked at."""


STORING = {Role.REGISTRY, Role.UNPACK, Role.LAYERS, Role.COMPRESS}


@pytest.mark.parametrize("role", list(Role))
def test_files_of_the_store_do_not_count_against_who_writes_them(role: Role) -> None:
    process: Any = SimpleNamespace(pid=7)
    nothing: Any = None
    group: Any = Group()
    for store_bytes in (0, GIB):
        RunningChild(process, nothing, role, RIGHTS[role]).enclose(group, store_bytes)
        files_bytes = store_bytes if role in STORING else 0
        assert group.max_bytes == RIGHTS[role].memory_bytes + files_bytes


@pytest.mark.parametrize(
    ("errors", "reason"),
    [([16, 16, 0], ""), ([22], "kernel.umount2"), ([16] * 9, "kernel.umount2")],
)
def test_store_that_is_busy_is_unmounted_a_moment_later(
    monkeypatch: pytest.MonkeyPatch, errors: list[int], reason: str
) -> None:
    def unmount(path: str) -> None:
        error = errors.pop(0)
        if error:
            raise KernelError(error, "umount2", path)

    monkeypatch.setattr(memory_store, "unmount", unmount)
    monkeypatch.setattr(memory_store, "_TRIES", 8)
    monkeypatch.setattr(memory_store, "_PAUSE_SECONDS", 0.001)
    if reason:
        with pytest.raises(CcinitError) as refused:
            EventLoop().run(close_memory_store("/store"))
        assert refused.value.reason == reason
    else:
        EventLoop().run(close_memory_store("/store"))
    assert errors == []
