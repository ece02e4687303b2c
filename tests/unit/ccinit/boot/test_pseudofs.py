"""What PID 1 mounts first: each with what closes it, the cgroup tree so that moves are at once."""

from pathlib import Path

import pytest

from ccinit.boot import pseudofs
from ccinit.boot.pseudofs import PSEUDO_FILESYSTEMS, MountSpec, mount_all
from ccinit.errors import KernelError
from ccinit.kernel.mount import MountFlag
from ccinit.values import replace


def test_everything_is_closed_but_for_what_has_to_be_open() -> None:
    for spec in PSEUDO_FILESYSTEMS:
        assert spec.flags & MountFlag.NOSUID
        assert bool(spec.flags & MountFlag.NODEV) == (spec.target != "/dev/pts")
        assert bool(spec.flags & MountFlag.NOEXEC) == (spec.target != "/run")


def test_cgroup_tree_is_delegated_protected_and_quick_to_move_in() -> None:
    (tree,) = (spec for spec in PSEUDO_FILESYSTEMS if spec.fstype == "cgroup2")
    assert tree.data.split(",") == ["nsdelegate", "memory_recursiveprot", "favordynmods"]


def test_mount_point_that_is_missing_is_made_and_a_refusal_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted: list[str] = []

    def mount(source: str, target: str, fstype: str, _flags: MountFlag, data: str) -> None:
        if fstype == "unknown":
            raise KernelError(19, "mount", target)
        assert (source, Path(target).is_dir()) == (fstype, True)
        mounted.append(f"{fstype} {data}")

    monkeypatch.setattr(pseudofs, "mount", mount)
    known = MountSpec(fstype="tmpfs", target=str(tmp_path / "shm"), data="size=1m")
    unknown = MountSpec(fstype="unknown", target=str(tmp_path))
    mount_all((known,))
    assert mounted == ["tmpfs size=1m"]
    with pytest.raises(KernelError) as refused:
        mount_all((unknown, known))
    assert refused.value.reason == "kernel.mount"
    assert mounted == ["tmpfs size=1m"]


def test_file_system_of_a_driver_is_mounted_where_the_driver_made_its_mount_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted: list[str] = []
    monkeypatch.setattr(pseudofs, "mount", lambda _source, target, *_: mounted.append(target))
    (configfs,) = (spec for spec in PSEUDO_FILESYSTEMS if spec.fstype == "configfs")
    target = tmp_path / "config"
    spec = replace(configfs, target=str(target))
    mount_all((spec,))
    assert (mounted, target.exists()) == ([], False)
    target.mkdir()
    mount_all((spec,))
    assert mounted == [str(target)]
    assert [spec.fstype for spec in PSEUDO_FILESYSTEMS if spec.of_a_driver] == ["configfs"]
