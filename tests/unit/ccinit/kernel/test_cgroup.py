"""The files of a cgroup2 tree, in a directory that plays one."""

from pathlib import Path

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.cgroup import Cgroup


@pytest.fixture
def group(tmp_path: Path) -> Cgroup:
    for name in ("cgroup.procs", "cgroup.kill", "cgroup.subtree_control", "memory.max"):
        (tmp_path / name).write_text("")
    (tmp_path / "memory.min").write_text("")
    (tmp_path / "pids.max").write_text("")
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\noom 3\noom_kill 2\n")
    (tmp_path / "memory.current").write_text("4096\n")
    return Cgroup(str(tmp_path))


def content(group: Cgroup, name: str) -> str:
    return (Path(group.path) / name).read_text()


def test_create_makes_a_child_and_takes_an_existing_one(group: Cgroup) -> None:
    assert Path(group.create("leaf").path).is_dir()
    assert group.create("leaf").path == f"{group.path}/leaf"


def test_create_below_nothing_is_a_kernel_error(group: Cgroup) -> None:
    with pytest.raises(KernelError) as error:
        Cgroup(f"{group.path}/none").create("leaf")
    assert error.value.reason == "kernel.mkdir"


def test_remove_of_a_full_group_is_a_kernel_error(group: Cgroup) -> None:
    with pytest.raises(KernelError) as error:
        group.remove()
    assert error.value.reason == "kernel.rmdir"


def test_limits_are_written_in_the_kernels_words(group: Cgroup) -> None:
    group.set_memory(max_bytes=1 << 20, min_bytes=4096)
    group.set_processes(64)
    group.enable(("memory", "pids"))
    group.add(17)
    group.kill()
    assert content(group, "memory.max") == "1048576"
    assert content(group, "memory.min") == "4096"
    assert content(group, "pids.max") == "64"
    assert content(group, "cgroup.subtree_control") == "+memory +pids"
    assert content(group, "cgroup.procs") == "17"
    assert content(group, "cgroup.kill") == "1"


def test_no_memory_limit_is_max(group: Cgroup) -> None:
    group.set_memory()
    assert content(group, "memory.max") == "max"


def test_events_are_read_by_name(group: Cgroup) -> None:
    assert group.is_populated()
    assert group.oom_kills() == 2
    assert group.memory_bytes() == 4096
