"""How a container's root is made, and the look into an image."""

import os
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, FormatError
from ccinit.run.rootfs import activate_rootfs, check_mount_points
from tests.fakes.machine.scarcity import count_descriptors


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What was mounted, instead of mounting it."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr("ccinit.run.rootfs.mount_overlay", lambda *call: calls.append(call))
    return calls


def test_directories_are_made_then_the_root_is_mounted(
    tmp_path: Path, mounts: list[tuple[object, ...]]
) -> None:
    scratch, root = tmp_path / "web", tmp_path / "root"
    before = os.umask(0o077)
    try:
        activate_rootfs(("/l/2", "/l/1"), str(scratch), str(root))
    finally:
        os.umask(before)
    options = (
        ("upperdir", f"{scratch}/upper"),
        ("workdir", f"{scratch}/work"),
        ("redirect_dir", "nofollow"),
        ("metacopy", "off"),
        ("index", "off"),
        ("xino", "off"),
    )
    assert mounts == [(str(root), ("/l/2", "/l/1"), options)]
    made = {scratch: 0o700, scratch / "upper": 0o755, scratch / "work": 0o700, root: 0o700}
    assert {path: path.stat().st_mode & 0o777 for path in made} == made


def test_directory_that_is_there_is_not_taken(
    tmp_path: Path, mounts: list[tuple[object, ...]]
) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(CcinitError) as error:
        activate_rootfs(("/l/1",), str(tmp_path / "web"), str(tmp_path / "root"))
    assert error.value.reason == "kernel.mkdir"
    assert mounts == []


@pytest.mark.parametrize(
    "lowers",
    [(), ("/a", "/a"), ("/a:b",), ("/a,b",), ("/a\\b",), ("/" + "a" * 255,)],
)
def test_layers_that_cannot_be_mounted_are_refused(
    lowers: tuple[str, ...], tmp_path: Path, mounts: list[tuple[object, ...]]
) -> None:
    with pytest.raises(CcinitError) as error:
        activate_rootfs(lowers, str(tmp_path / "scratch"), str(tmp_path / "root"))
    assert error.value.reason == "run.rootfs"
    assert not mounts
    assert not list(tmp_path.iterdir())


def check(root: Path) -> None:
    before = count_descriptors()
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        check_mount_points(root_fd)
    finally:
        os.close(root_fd)
        assert count_descriptors() == before


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
