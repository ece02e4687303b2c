"""Packages that are not the locked ones are told, refused for a release, and never forged."""

import io
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, ConfigError
from rootfs_builder.packages import source as source_module
from rootfs_builder.packages.lock import LockedPackage, encode_lock
from rootfs_builder.packages.quarry import Quarry
from rootfs_builder.packages.source import PackageSource, read_lock
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree
from rootfs_builder.workspace import Workspace
from tests.unit.rootfs_builder.packages.small_lock import LOCK, A, B, changed

WORDS = "packages are not the locked ones"


def source(
    monkeypatch: pytest.MonkeyPatch, *packages: LockedPackage, release: bool = False
) -> tuple[PackageSource, io.StringIO]:
    """A source whose quarry holds these packages, and what it says."""

    def build_quarry(*_: object, offline: bool) -> Quarry:
        assert offline
        return Quarry(tree=ToolsTree(Path("tree")), packages=packages, kernel_release="6.12")

    monkeypatch.setattr(source_module, "build_quarry", build_quarry)
    stream = io.StringIO()
    progress = Progress(name="test", stream=stream)
    made = PackageSource(
        workspace=Workspace(Path()),
        tools=ToolsTree(Path("tools")),
        release=release,
        offline=True,
        progress=progress,
    )
    return made, stream


@pytest.mark.parametrize("release", [False, True])
def test_locked_packages_are_taken_in_silence(
    monkeypatch: pytest.MonkeyPatch, *, release: bool
) -> None:
    packages, said = source(monkeypatch, A, B, release=release)
    quarry, differences = packages.open(LOCK)
    assert (quarry.packages, differences, said.getvalue()) == ((A, B), (), "")


def test_newer_package_is_taken_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    packages, said = source(monkeypatch, changed(A, "1:2.1-1", "d"), B)
    assert packages.open(LOCK)[1] == ("a: 1:2.0-1 -> 1:2.1-1",)
    assert f"WARNING: 1 {WORDS}:\n  a: 1:2.0-1 -> 1:2.1-1" in said.getvalue()


def test_newer_package_in_a_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packages, _ = source(monkeypatch, changed(A, "1:2.1-1", "d"), B, release=True)
    with pytest.raises(ConfigError) as error:
        packages.open(LOCK)
    assert error.value.reason == "lock.release"


def test_locked_version_with_other_content_is_always_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packages, _ = source(monkeypatch, changed(A, A.version, "f"), B)
    with pytest.raises(ConfigError) as error:
        packages.open(LOCK)
    assert error.value.reason == "lock.content"
    found = changed(A, A.version, "f").sha256
    told = f"packages.lock:\n  {A.name} {A.version}: expected {A.sha256}, found {found}"
    assert error.value.detail.endswith(told)


def test_lock_file_that_is_missing_or_none_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.package_lock.parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(CcinitError, match="run `make lock`") as error:
        read_lock(workspace)
    assert error.value.reason == "lock.missing"
    workspace.package_lock.write_text("a 1\n")
    with pytest.raises(CcinitError, match=f"^lock.line: {workspace.package_lock}: line 1") as error:
        read_lock(workspace)
    workspace.package_lock.write_text(encode_lock(LOCK))
    assert read_lock(workspace) == LOCK
