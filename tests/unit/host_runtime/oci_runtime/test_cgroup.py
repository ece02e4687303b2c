"""Hierarchies and limits by files as the kernel has them; real ones: `test_container_cgroup`."""

from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime.cgroup import (
    Hierarchy,
    MemoryNeed,
    enter_cgroup,
    find_hierarchies,
    make_cgroup,
)

LINE = "31 23 0:{device} {top} {root} rw,nosuid shared:9 - {kind} {kind} rw,{options}\n"


def mountinfo(tmp_path: Path, *rows: tuple[int, str, str, str, str]) -> Path:
    text = "".join(
        LINE.format(device=device, top=top, root=tmp_path / root, kind=kind, options=options)
        for device, top, root, kind, options in rows
    )
    path = tmp_path / "mountinfo"
    path.write_text(text)
    return path


def unified(root: Path, controllers: str = "cpuset cpu io memory") -> Path:
    """Files of the root of version 2, and of the folder `pod`, as far as they matter."""
    for folder in (root, root / "pod", root / "pod/a"):
        folder.mkdir()
        (folder / "cgroup.controllers").write_text(f"{controllers}\n")
        (folder / "cgroup.subtree_control").write_text("cpu\n")
        (folder / "cgroup.procs").write_text("")
    return root


def test_every_hierarchy_with_a_controller_is_found_once(tmp_path: Path) -> None:
    unified(tmp_path / "unified", "")
    unified(tmp_path / "all")
    path = mountinfo(
        tmp_path,
        (20, "/", "", "tmpfs", "mode=755"),
        (21, "/", "cpu", "cgroup", "cpu,cpuacct"),
        (22, "/docker/a", "part", "cgroup", "memory"),
        (22, "/", "memory", "cgroup", "memory"),
        (22, "/", "chroot/memory", "cgroup", "memory"),
        (23, "/", "systemd", "cgroup", "xattr,name=systemd"),
        (24, "/", "unified", "cgroup2", "nsdelegate"),
        (25, "/", "all", "cgroup2", "nsdelegate"),
    )
    assert find_hierarchies(path) == (
        Hierarchy(root=tmp_path / "cpu", is_unified=False, has_memory=False),
        Hierarchy(root=tmp_path / "memory", is_unified=False, has_memory=True),
        Hierarchy(root=tmp_path / "all", is_unified=True, has_memory=True),
    )


def test_version_2_has_memory_counted_and_bounds_it(tmp_path: Path) -> None:
    root = unified(tmp_path / "all")
    hierarchies = (Hierarchy(root=root, is_unified=True, has_memory=True),)
    (root / "pod/memory.max").write_text("max\n")
    leaf = root / "pod/a"
    (leaf / "memory.max").write_text("max\n")
    make_cgroup(hierarchies, ("pod", "a"), MemoryNeed(guest_bytes=100, limit_bytes=100))
    assert (leaf / "memory.max").read_text().startswith("100")
    for folder in (root, root / "pod"):  # the last of the writes; the kernel takes each
        assert (folder / "cgroup.subtree_control").read_text() == "+memory"
    enter_cgroup(hierarchies, ("pod", "a"))
    assert (leaf / "cgroup.procs").read_text() == "0"


@pytest.mark.parametrize(("of_pod", "of_leaf"), [("99", "max"), ("max", "99")])
def test_guest_larger_than_a_limit_of_version_2_is_refused(
    tmp_path: Path, of_pod: str, of_leaf: str
) -> None:
    root = unified(tmp_path / "all")
    (root / "pod/memory.max").write_text(f"{of_pod}\n")
    (root / "pod/a/memory.max").write_text(f"{of_leaf}\n")
    hierarchies = (Hierarchy(root=root, is_unified=True, has_memory=True),)
    with pytest.raises(CcinitError) as error:
        make_cgroup(hierarchies, ("pod", "a"), MemoryNeed(guest_bytes=100))
    assert error.value.reason == "cgroup.memory"
    make_cgroup(hierarchies, ("pod", "a"), MemoryNeed(guest_bytes=99))
    make_cgroup(hierarchies, ("pod", "a"), None)


def test_cgroup_that_does_not_count_memory_is_refused(tmp_path: Path) -> None:
    """Of version 2, where a folder above it has processes of its own, or was not delegated."""
    root = unified(tmp_path / "all")
    hierarchies = (Hierarchy(root=root, is_unified=True, has_memory=True),)
    with pytest.raises(CcinitError) as error:
        make_cgroup(hierarchies, ("pod", "a"), MemoryNeed(guest_bytes=100))
    assert error.value.reason == "cgroup.none"
    other = (Hierarchy(root=root, is_unified=False, has_memory=False),)
    with pytest.raises(CcinitError) as error:
        make_cgroup(other, ("pod", "a"), None)
    assert error.value.reason == "cgroup.none"


@pytest.mark.parametrize("leads_to", ["other", "file"])
def test_link_or_file_in_the_way_is_no_cgroup(tmp_path: Path, leads_to: str) -> None:
    root = unified(tmp_path / "all")
    (tmp_path / "other").mkdir()
    (tmp_path / "file").touch()
    (root / "pod/link").symlink_to(tmp_path / leads_to)
    hierarchies = (Hierarchy(root=root, is_unified=True, has_memory=True),)
    for names in (("pod", "link"), ("pod", "link", "a")):
        with pytest.raises(CcinitError) as error:
            make_cgroup(hierarchies, names, None)
        assert error.value.reason == "cgroup.path"
    assert not (tmp_path / "other/a").exists()
