"""docs/examples/wireguard-guest does what its README says: mkosi runs, and an image comes out.

Needs root and the tools tree, and the network for the first download of its packages.
"""

import json
import os
import shutil
from itertools import chain
from pathlib import Path

import pytest

from ccinit.init.module_order import parse_module_order
from rootfs_builder.apt_sources import read_host_sources
from rootfs_builder.cli import main
from rootfs_builder.guest_image.cpio_reader import read_initrd
from rootfs_builder.guest_image.erofs_reader import ErofsFile, data_bytes, read_erofs
from rootfs_builder.packages.mkosi import prepare_sandbox
from rootfs_builder.tools_tree import ToolsTree

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

SAMPLE = Path("docs/examples/wireguard-guest")
IMAGES = Path("build/image").absolute()
TOOLS = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
SEEN = Path("/project")


@pytest.fixture(scope="module")
def project() -> Path:
    """A copy as deep below the repository as the sample, so that its include leads there."""
    copy = Path("build/examples") / SAMPLE.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(SAMPLE, copy, ignore=shutil.ignore_patterns("build"))
    return copy


@pytest.fixture(scope="module")
def images(project: Path) -> Path:
    assert main(["image", "--project", str(project), "--profile", "prod"]) == 0
    assert main(["image", "--profile", "prod", "--output", str(IMAGES)]) == 0
    return project / "build/image"


def root_files(folder: Path) -> dict[str, ErofsFile]:
    disk = (folder / "ccinit-prod.root.erofs").read_bytes()
    return dict(read_erofs(TOOLS, disk[: data_bytes(disk)]))


def module_order(folder: Path) -> list[str]:
    members = read_initrd((folder / "ccinit-prod.direct.initrd").read_bytes())
    order = next(member.data for member in members if member.name == "modules/order")
    return [line.file for line in chain.from_iterable(parse_module_order(order))]


def test_root_is_ccinits_and_what_the_lists_add(images: Path) -> None:
    theirs, ours = root_files(images), root_files(IMAGES)
    added = {path for path in theirs.keys() - ours.keys() if not path.startswith("usr/lib/x86")}
    assert added == {"usr/bin/wg", "usr/share", "usr/share/wireguard-guest",
                     "usr/share/wireguard-guest/notice"}  # fmt: skip
    assert ours.keys() <= theirs.keys()
    code = [path for path in ours if path.endswith(".pyc")]
    assert len(code) > 500
    assert all(theirs[path].data == ours[path].data for path in code)
    assert theirs["usr/share/wireguard-guest/notice"].data.startswith(b"This image is Example's")


def test_initrd_loads_the_added_module_after_what_it_needs(images: Path) -> None:
    theirs, ours = module_order(images), module_order(IMAGES)
    assert "wireguard.ko" in theirs
    assert theirs.index("udp_tunnel.ko") < theirs.index("wireguard.ko")
    assert [name for name in theirs if name in ours] == ours


def test_measurements_are_the_projects_own(images: Path) -> None:
    reports = [json.loads((folder / "ccinit-prod.json").read_text()) for folder in (images, IMAGES)]
    assert reports[0]["root_hash"] != reports[1]["root_hash"]
    assert "wireguard-tools" in reports[0]["packages"]
    assert "wireguard-tools" not in reports[1]["packages"]
    measured = json.loads((images / "measurements.json").read_text())
    assert [image["name"] for image in measured["images"]] == ["ccinit-prod"]


def test_project_cannot_list_what_no_guest_may_hold(
    images: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = project / "programs.list"
    good = programs.read_text()
    programs.write_text(f"{good}usr/bin/bash # for convenience\n")
    try:
        assert main(["image", "--project", str(project), "--profile", "prod"]) == 1
    finally:
        programs.write_text(good)
    words = capsys.readouterr().err
    assert "[image.baseline]" in words
    assert "usr/bin/bash: a shell" in words


def test_mkosi_builds_the_sample_by_itself(project: Path) -> None:
    build = ("mkosi", f"--directory=/repository/{project}", "--force", "build")
    TOOLS.run(build, mounts={Path.cwd(): Path("/repository")})
    output = project / "build/mkosi/output/packages"
    assert {"crun", "python3.13", "wg"} <= {path.name for path in (output / "usr/bin").iterdir()}
    assert (output / "usr/share/wireguard-guest/notice").is_file()


def test_mkosi_builds_the_repository_without_generated_parts(tmp_path: Path) -> None:
    shutil.copy("mkosi.conf", tmp_path)
    shutil.copytree("rootfs-builder/mkosi", tmp_path / "rootfs-builder/mkosi")
    prepare_sandbox(tmp_path / "mkosi.sandbox", read_host_sources(), "")  # whose archives to ask
    cache = Path("build/cache/packages").resolve()
    TOOLS.run(
        ("mkosi", f"--directory={SEEN}", "--package-cache-directory=/cache", "build"),
        mounts={tmp_path: SEEN, cache: Path("/cache")},
    )
    assert (tmp_path / "build/mkosi/output/quarry/usr/bin/crun").is_file()
