"""An image's volumes are directories of its own root, wherever its links seem to lead."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import FormatError
from ccinit.run.image_volumes import find_image_volumes
from tests.fakes.machine.scarcity import count_descriptors


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "root"
    (path / "var/lib/db").mkdir(parents=True, mode=0o700)
    (path / "proc").mkdir()
    (path / "data").symlink_to("/var/lib/db")
    (path / "climbing").symlink_to("../../../../var")
    (path / "host").symlink_to("/proc")
    (path / "top").symlink_to("/")
    (path / "dangling").symlink_to("nowhere")
    (path / "file").write_text("")
    return path


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def find(root_fd: int, root: Path, *volumes: str, taken: tuple[str, ...] = ()) -> list[str]:
    before = count_descriptors()
    try:
        return list(find_image_volumes(root_fd, str(root), volumes, taken))
    finally:
        assert count_descriptors() == before


def test_volume_is_where_the_image_has_it(root: Path, root_fd: int) -> None:
    assert find(root_fd, root, "/var/lib/db") == ["/var/lib/db"]
    assert (root / "var/lib/db").stat().st_mode & 0o777 == 0o700


def test_volume_that_is_missing_is_made(root: Path, root_fd: int) -> None:
    before = os.umask(0o077)
    try:
        assert find(root_fd, root, "/var/new/deep") == ["/var/new/deep"]
    finally:
        os.umask(before)
    assert (root / "var/new/deep").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("volume", "place"),
    [
        ("/data", "/var/lib/db"),
        ("/climbing/lib", "/var/lib"),
        ("/data/new", "/var/lib/db/new"),
        ("/top/var", "/var"),
    ],
)
def test_r70_links_are_followed_inside_the_root_only(
    root: Path, root_fd: int, volume: str, place: str
) -> None:
    assert find(root_fd, root, volume) == [place]
    assert (root / place.lstrip("/")).is_dir()


def test_two_names_of_one_place_are_one_volume(root: Path, root_fd: int) -> None:
    assert find(root_fd, root, "/data", "/var/lib/db") == ["/var/lib/db"]


def test_place_of_the_manifest_is_the_manifests(root: Path, root_fd: int) -> None:
    assert find(root_fd, root, "/data", "/var/x", taken=("/var/lib/db",)) == ["/var/x"]


@pytest.mark.parametrize(
    "volume",
    ["/", "/top", "/file", "/file/x", "/dangling", "/proc", "/proc/x", "/host", "/sys/new"],
)
def test_r70_volume_that_cannot_be_one_is_refused(root: Path, root_fd: int, volume: str) -> None:
    with pytest.raises(FormatError) as refused:
        find(root_fd, root, volume)
    assert refused.value.reason == "run.image_volume"
    assert find(root_fd, root, "/data") == ["/var/lib/db"]


def test_r70_volume_whose_path_is_no_text_is_refused(root: Path, root_fd: int) -> None:
    """A layer's names are bytes, and a link leads from a name in the image's config to any."""
    (root / os.fsdecode(b"\xff") / "db").mkdir(parents=True)
    (root / "latin").symlink_to(os.fsdecode(b"/\xff/db"))
    with pytest.raises(FormatError, match="not UTF-8") as refused:
        find(root_fd, root, "/latin")
    assert refused.value.reason == "run.image_volume"
    assert str(refused.value).encode()
    assert find(root_fd, root, "/data") == ["/var/lib/db"]


@pytest.mark.parametrize("elsewhere", ["roo", "root/var/lib/db"])
def test_r70_place_that_the_kernel_says_is_outside_is_refused(
    root: Path, root_fd: int, elsewhere: str
) -> None:
    """A place is a path below the root's, so a root that is elsewhere has no such place."""
    with pytest.raises(FormatError, match="leads out of the root") as refused:
        find(root_fd, root.parent / elsewhere, "/var")
    assert refused.value.reason == "run.image_volume"
    assert find(root_fd, root, "/var") == ["/var"]
