"""The guest's site has wheels, our replacements and our code, by profile."""

from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from rootfs_builder.file_list import read_listed
from rootfs_builder.guest_image.python_modules import prepare_site
from rootfs_builder.workspace import Workspace
from tests.unit.rootfs_builder.guest_image.small_repository import write_repository
from tests.unit.rootfs_builder.packages.wheel_files import wheel


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    files = {
        "rootfs-builder/mkosi/test-only.list": "ccinit.sample # proves nothing\n",
        "rootfs-builder/mkosi/replaced/wheels/certifi/__init__.py": "ours",
        "ccinit/__init__.py": "",
        "ccinit/__main__.py": "main",
        "ccinit/sample.py": "",
        "ccinit/__pycache__/sample.cpython-311.pyc": "",
    }
    return write_repository(tmp_path, files)


def site_files(workspace: Workspace, profile: str) -> set[str]:
    name = "certifi-1-py3-none-any.whl"
    theirs = wheel(workspace.repository, name, {"certifi/__init__.py": b"theirs"})
    site = prepare_site(workspace, [theirs], profile)
    assert (site / "certifi/__init__.py").read_text() == "ours"
    return {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}


def test_r19_production_site_lacks_what_only_tests_have(workspace: Workspace) -> None:
    assert site_files(workspace, "prod") == {
        "__main__.py",
        "ccinit/__init__.py",
        "ccinit/__main__.py",
        "certifi/__init__.py",
    }


def test_r11_production_site_reads_nothing_that_a_host_passes_beside_its_disks() -> None:
    root = Path(__file__).parents[4]
    listed = read_listed(root / "rootfs-builder/mkosi/test-only.list")
    tests_alone = [root / entry.name.replace(".", "/") for entry in listed]

    def readers(channel: str) -> dict[Path, bool]:
        """Files that name it, and whether an image for production holds them."""
        return {
            path: not any(path.with_suffix("").is_relative_to(each) for each in tests_alone)
            for path in (root / "ccinit").rglob("*.py")
            if channel in path.read_text()
        }

    assert readers("/sys/class/dmi")  # the control: images for tests are asked by it
    for channel in HOSTS_CHANNELS:
        assert not any(readers(channel).values()), channel


HOSTS_CHANNELS = (
    "/sys/class/dmi",
    "/sys/devices/virtual/dmi",
    "/sys/firmware/dmi",
    "/sys/firmware/qemu_fw_cfg",
    "/sys/firmware/efi",
    "efivarfs",
    "/.extra",
    "io.systemd",
)


def test_test_site_has_it(workspace: Workspace) -> None:
    assert "ccinit/sample.py" in site_files(workspace, "test")


def test_test_only_module_that_does_not_exist_is_refused(workspace: Workspace) -> None:
    (workspace.repository / "ccinit/sample.py").unlink()
    with pytest.raises(ConfigError) as error:
        site_files(workspace, "prod")
    assert error.value.reason == "python.test-only"
