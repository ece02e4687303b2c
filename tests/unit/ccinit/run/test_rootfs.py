"""The plan of a container's root, and the look into an image."""

import os
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, FormatError
from ccinit.run.rootfs import MakeDirectory, MountOverlay, check_mount_points, plan_rootfs


def test_plan_makes_directories_then_mounts() -> None:
    assert plan_rootfs(("/l/2", "/l/1"), "/scratch/web", "/run/web/root") == (
        MakeDirectory(path="/scratch/web", mode=0o700),
        MakeDirectory(path="/scratch/web/upper", mode=0o755),
        MakeDirectory(path="/scratch/web/work", mode=0o700),
        MakeDirectory(path="/run/web/root", mode=0o700),
        MountOverlay(
            target="/run/web/root",
            lowers=("/l/2", "/l/1"),
            options=(
                ("upperdir", "/scratch/web/upper"),
                ("workdir", "/scratch/web/work"),
                ("redirect_dir", "nofollow"),
                ("metacopy", "off"),
                ("index", "off"),
                ("xino", "off"),
            ),
        ),
    )


@pytest.mark.parametrize(
    "lowers",
    [(), ("/a", "/a"), ("/a:b",), ("/a,b",), ("/a\\b",), ("/" + "a" * 255,)],
)
def test_plan_of_layers_that_cannot_be_mounted_is_refused(lowers: tuple[str, ...]) -> None:
    with pytest.raises(CcinitError) as error:
        plan_rootfs(lowers, "/scratch", "/root")
    assert error.value.reason == "run.rootfs"


def test_make_directory_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        MakeDirectory(path=str(tmp_path / "x"), mode=0o755).execute()
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o755
    with pytest.raises(CcinitError) as error:
        MakeDirectory(path=str(tmp_path / "x"), mode=0o755).execute()
    assert error.value.reason == "kernel.mkdir"


def check(root: Path) -> None:
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        check_mount_points(root_fd)
    finally:
        os.close(root_fd)


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_r72_image_with_a_link_or_file_where_the_kernel_mounts_is_refused(
    tmp_path: Path, name: str
) -> None:
    check(tmp_path)
    place = tmp_path / name
    place.mkdir()
    check(tmp_path)
    place.rmdir()
    place.symlink_to("/etc")
    with pytest.raises(FormatError) as error:
        check(tmp_path)
    assert error.value.reason == "run.mount_point"
    place.unlink()
    place.write_text("a file")
    with pytest.raises(FormatError) as error:
        check(tmp_path)
    assert error.value.reason == "run.mount_point"
