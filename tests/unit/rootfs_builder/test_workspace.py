"""A project adds to our lists and keeps what it makes to itself; downloads are shared."""

from pathlib import Path

import pytest

from ccinit.errors import ConfigError, FormatError
from rootfs_builder.packages.mkosi import plan_mounts
from rootfs_builder.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    files = {
        "ccinit/mkosi.conf": "[Config]\n",
        "ccinit/rootfs-builder/mkosi/programs.list": "usr/bin/crun # reason\n",
        "ccinit/rootfs-builder/mkosi/profiles/prod.conf": "",
        "shop/mkosi.conf": "[Include]\nInclude=../ccinit\n",
        "shop/programs.list": "usr/bin/wg # reason\n",
        "shop/README.md": "words",
        "shop/build/mkosi/output": "made",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Workspace(tmp_path / "ccinit", tmp_path / "shop")


def names(workspace: Workspace, name: str) -> list[str]:
    return [entry.name for entry in workspace.read_list(name)]


def test_lists_of_a_project_are_added_to_ours(workspace: Workspace) -> None:
    assert names(workspace, "programs.list") == ["usr/bin/crun", "usr/bin/wg"]
    assert names(Workspace(workspace.repository), "programs.list") == ["usr/bin/crun"]
    assert names(workspace, "files.list") == []


def test_project_that_lists_what_we_list_is_refused(workspace: Workspace) -> None:
    (workspace.home / "programs.list").write_text("usr/bin/crun # another reason\n")
    with pytest.raises(FormatError) as error:
        workspace.read_list("programs.list")
    assert error.value.reason == "list.twice"
    assert "usr/bin/crun" in error.value.detail


def test_project_keeps_what_it_makes_and_shares_downloads(workspace: Workspace) -> None:
    own = Workspace(workspace.repository)
    for path in (workspace.build, workspace.mkosi, workspace.quarry, workspace.package_lock):
        assert path.is_relative_to(workspace.home)
    assert workspace.package_cache == own.package_cache
    assert workspace.wheel_cache == own.wheel_cache
    assert workspace.image_lock == own.image_lock
    assert workspace.tools == own.tools


def test_configuration_of_a_project_is_ours_and_its_own(
    workspace: Workspace,
) -> None:
    root = workspace.surroundings
    assert [str(path.relative_to(root)) for path in workspace.configuration()] == [
        "ccinit/mkosi.conf",
        "ccinit/rootfs-builder/mkosi/profiles/prod.conf",
        "shop/mkosi.conf",
    ]


def test_lists_and_lock_of_a_project_decide_its_image_but_no_package(workspace: Workspace) -> None:
    (workspace.home / "packages.lock").write_text("")
    files = {path.name for path in workspace.project_files()}
    assert files == {"mkosi.conf", "packages.lock", "programs.list"}
    assert files & {path.name for path in workspace.configuration()} == {"mkosi.conf"}


def test_own_quarry_is_not_where_mkosi_puts_one_by_itself(workspace: Workspace) -> None:
    native = Workspace(Path()).home / "mkosi.conf"
    (output,) = (line for line in native.read_text().splitlines() if "OutputDirectory" in line)
    assert output.partition("=")[2] == "build/mkosi/output"
    assert not workspace.quarry.is_relative_to(workspace.mkosi)


def test_project_that_shares_no_folder_with_us_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        _ = Workspace(Path("/ccinit"), Path("/shop")).surroundings
    assert error.value.reason == "project.place"
    assert Workspace(Path("/a/ccinit"), Path("/a/shop")).surroundings == Path("/a")


@pytest.mark.parametrize(
    "linked", ["build", "build/cache", "build/cache/packages", "build/quarry", "build/mkosi/cache"]
)
def test_folder_on_another_disk_is_named_by_where_it_is(tmp_path: Path, linked: str) -> None:
    link, disk = tmp_path / "ccinit" / linked, tmp_path / "disk"
    disk.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(disk)
    workspace = Workspace(tmp_path / "ccinit")
    workspace.prepare()
    for path in (workspace.quarry, workspace.package_cache, workspace.staging, workspace.mkosi):
        assert path == path.resolve()
        assert path.is_dir()
    places = plan_mounts(workspace)
    assert places.pop(tmp_path / "ccinit") == Path("/repository")
    ((place, seen),) = places.items()
    assert place.is_relative_to(disk)
    assert seen == Path("/repository-1")


def test_tools_tree_that_is_a_link_is_made_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "tools").symlink_to(tmp_path / "disk")
    assert Workspace(tmp_path).tools == tmp_path / "disk"


def test_folders_of_the_repository_need_no_mount_of_their_own(workspace: Workspace) -> None:
    workspace.prepare()
    assert plan_mounts(workspace) == {workspace.surroundings: Path("/repository")}
