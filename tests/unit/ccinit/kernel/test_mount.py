"""Mounts that the kernel refuses, or that are a bug before it is asked."""

from pathlib import Path

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.mount import OPTIONS_LIMIT_BYTES, MountFlag, mount, sync_file_system, unmount


def test_mount_refused_names_the_target() -> None:
    with pytest.raises(KernelError) as error:
        mount("none", "/nonexistent/target", "tmpfs", MountFlag.NODEV)
    assert error.value.reason == "kernel.mount"
    assert "/nonexistent/target" in error.value.detail


def test_mount_options_longer_than_a_page_are_a_bug() -> None:
    with pytest.raises(RuntimeError):
        mount("none", "/nonexistent", "tmpfs", options="x" * (OPTIONS_LIMIT_BYTES + 1))


def test_umount_of_nothing_is_a_kernel_error() -> None:
    with pytest.raises(KernelError) as error:
        unmount("/nonexistent/target")
    assert error.value.reason == "kernel.umount2"


def test_file_system_that_keeps_everything_is_synced(tmp_path: Path) -> None:
    (tmp_path / "dirty").write_bytes(b"kept")
    sync_file_system(str(tmp_path))


def test_sync_of_nothing_is_a_kernel_error() -> None:
    with pytest.raises(KernelError) as error:
        sync_file_system("/nonexistent/target")
    assert error.value.reason == "kernel.open"
