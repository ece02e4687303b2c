"""Up-to-date images are kept, releases are as locked, and nothing outgrows its budget."""

import io
import json
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from ccinit.formats.cmdline import Carrier, RootLocation
from rootfs_builder.guest_image.build import (
    ImageBuild,
    command_line,
    digest_image_inputs,
    require_budget,
)
from rootfs_builder.guest_image.report import FORMAT
from rootfs_builder.packages.lock import encode_lock
from rootfs_builder.packages.source import PackageSource, read_lock
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree
from rootfs_builder.workspace import Workspace
from tests.unit.rootfs_builder.guest_image.small_repository import write_repository
from tests.unit.rootfs_builder.packages.small_lock import LOCK

RAM = RootLocation(carrier=Carrier.RAM)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The files of a repository that decide an image."""
    files = {
        "mkosi.conf": "[Config]\n",
        "requirements/guest.txt": "",
        "rootfs-builder/packages.lock": encode_lock(LOCK),
        "rootfs-builder/mkosi/modules.list": "loop # reason\n",
        "rootfs-builder/src/rootfs_builder/__init__.py": "",
        "rootfs-builder/src/rootfs_builder/guest_image/__init__.py": "",
        "rootfs-builder/src/rootfs_builder/guest_image/build.py": (
            "import measured_boot.image.verity\n"
        ),
        "rootfs-builder/src/rootfs_builder/guest_image/module_compiler.py": "",
        "rootfs-builder/mkosi/debug-tools.list": "usr/bin/ls # reason\n",
        "rootfs-builder/src/rootfs_builder/container_image/demo_image.py": "",
        "measured-boot/src/measured_boot/__init__.py": "",
        "measured-boot/src/measured_boot/image/verity.py": "",
        "measured-boot/src/measured_boot/tpm/pcr.py": "",
        "ccinit/__main__.py": "",
    }
    return write_repository(tmp_path, files)


def build(workspace: Workspace, *, release: bool) -> tuple[ImageBuild, io.StringIO]:
    stream = io.StringIO()
    packages = PackageSource(
        workspace=workspace,
        tools=ToolsTree(workspace.tools),
        release=release,
        offline=True,
        progress=Progress(name="image", stream=stream),
    )
    return ImageBuild(packages=packages, output=workspace.build / "image"), stream


def finish(workspace: Workspace, differences: list[str]) -> None:
    """Leave a report as a finished build does."""
    output = workspace.build / "image"
    output.mkdir(parents=True)
    content = {
        "format": FORMAT,
        "inputs": digest_image_inputs(workspace, "prod"),
        "files": {},
        "differences": differences,
    }
    (output / "ccinit-prod.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name",
    [
        "mkosi.conf",
        "requirements/guest.txt",
        "rootfs-builder/packages.lock",
        "rootfs-builder/mkosi/modules.list",
        "rootfs-builder/src/rootfs_builder/guest_image/build.py",
        "rootfs-builder/src/rootfs_builder/guest_image/module_compiler.py",
        "measured-boot/src/measured_boot/image/verity.py",
        "ccinit/__main__.py",
    ],
)
def test_inputs_change_with_each_file_that_decides(workspace: Workspace, name: str) -> None:
    before = digest_image_inputs(workspace, "prod")
    path = workspace.repository / name
    path.write_text(path.read_text() + "# changed\n")
    assert digest_image_inputs(workspace, "prod") != before


@pytest.mark.parametrize(
    "name",
    [
        "rootfs-builder/mkosi/debug-tools.list",
        "rootfs-builder/src/rootfs_builder/container_image/demo_image.py",
        "measured-boot/src/measured_boot/tpm/pcr.py",
    ],
)
def test_inputs_do_not_change_with_other_files(workspace: Workspace, name: str) -> None:
    before = digest_image_inputs(workspace, "prod")
    (workspace.repository / name).write_text("# changed\n")
    assert digest_image_inputs(workspace, "prod") == before


def test_profiles_have_different_inputs(workspace: Workspace) -> None:
    assert digest_image_inputs(workspace, "prod") != digest_image_inputs(workspace, "test")


def test_image_that_is_up_to_date_is_not_built_again(workspace: Workspace) -> None:
    finish(workspace, [])
    image, stream = build(workspace, release=True)
    assert image.run(["prod"]) == (workspace.build / "image/ccinit-prod.json",)
    assert "up to date" in stream.getvalue()


def test_release_of_an_image_that_is_not_as_locked_is_refused(workspace: Workspace) -> None:
    finish(workspace, ["a: 1 -> 2"])
    with pytest.raises(ConfigError) as error:
        build(workspace, release=True)[0].run(["prod"])
    assert error.value.reason == "lock.release"
    assert "make lock" in error.value.detail
    assert "a: 1 -> 2" in error.value.detail


def test_ordinary_build_that_is_not_as_locked_warns(workspace: Workspace) -> None:
    finish(workspace, ["a: 1 -> 2"])
    image, stream = build(workspace, release=False)
    image.run(["prod"])
    assert "WARNING: 1 packages are not the locked ones:\n  a: 1 -> 2" in stream.getvalue()


def test_missing_lock_is_refused(workspace: Workspace) -> None:
    assert read_lock(workspace) == LOCK
    workspace.package_lock.unlink()
    with pytest.raises(ConfigError) as error:
        read_lock(workspace)
    assert error.value.reason == "lock.missing"


def test_line_is_the_base_and_our_words() -> None:
    assert command_line("quiet", RAM) == "quiet ccinit.carrier=ram"


def test_line_that_the_kernel_would_cut_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        command_line("x" * 2040, RAM)
    assert error.value.reason == "cmdline.length"


def test_part_over_its_budget_is_refused() -> None:
    require_budget("root", 10, 10)
    with pytest.raises(ConfigError) as error:
        require_budget("root", 11, 10)
    assert error.value.reason == "image.budget"
