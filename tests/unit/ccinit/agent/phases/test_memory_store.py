"""The store in memory: how large it may be, and what it is mounted with."""

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
    assert [call[:3] for call in mounts] == [("tmpfs", path, "tmpfs")]


def test_store_that_is_too_large_is_refused_before_it_is_mounted(
    tmp_path: Path, mounts: list[tuple[object, ...]]
) -> None:
    made = guest()
    with pytest.raises(CcinitError) as refused:
        open_memory_store(made, GIB + 1, str(tmp_path / "store"))
    assert refused.value.reason == "store.memory"
    assert (mounts, made.undo, made.children.store_bytes) == ([], [], 0)
    assert list(tmp_path.iterdir()) == []


def test_what_is_used_and_free_is_all_there_is(tmp_path: Path) -> None:
    used, free = count_used(str(tmp_path))
    assert used > 0
    assert free > 0


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
