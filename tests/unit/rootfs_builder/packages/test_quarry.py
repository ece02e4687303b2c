"""The quarry is read without leaving it, and made anew only where it has to be."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from ccinit.errors import ConfigError
from rootfs_builder.packages import quarry as quarry_module
from rootfs_builder.packages.lock import (
    LockedPackage,
    PackageLock,
    encode_apt_pins,
    encode_release_pin,
)
from rootfs_builder.packages.quarry import Quarry, build_quarry, read_installed
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import RELEASE, ToolsTree
from rootfs_builder.workspace import Workspace
from tests.unit.rootfs_builder.packages.small_lock import LOCK

STATUS = """\
Package: one
Status: install ok installed
Architecture: amd64
Version: 1:2.0-1
Description: text
 Version: 9

Package: two
Status: deinstall ok config-files
Architecture: all
Version: 1
"""


@pytest.fixture
def tree(tmp_path: Path) -> Quarry:
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/file").write_bytes(b"inside")
    (tmp_path / "file").write_bytes(b"outside")
    return Quarry(tree=ToolsTree(root), packages=(), kernel_release="6.12")


def test_links_are_followed_inside_the_tree(tree: Quarry) -> None:
    root = tree.tree.path
    (root / "lib").symlink_to("/usr/lib")
    (root / "usr/lib/link").symlink_to("../../../../usr/lib/file")
    (root / "usr/link").symlink_to("../usr/lib/../lib/file")
    assert tree.read("/lib/link") == tree.read("/usr/link") == b"inside"


@pytest.mark.parametrize("target", ["/file", "../file", "../../../file", "loop"])
def test_link_never_leads_out_of_the_tree(tree: Quarry, target: str) -> None:
    (tree.tree.path / "loop").symlink_to(target)
    with pytest.raises(ConfigError) as error:
        tree.read("/loop")
    assert error.value.reason == "quarry.file"


def test_installed_packages_carry_the_digest_of_their_file(tmp_path: Path) -> None:
    (tmp_path / "root/var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "root/var/lib/dpkg/status").write_text(STATUS)
    archives = tmp_path / "cache/cache/apt/archives"
    archives.mkdir(parents=True)
    (archives / "one_1%3a2.0-1_amd64.deb").write_bytes(b"deb")
    digest = hashlib.sha256(b"deb").hexdigest()
    assert read_installed(tmp_path / "root", tmp_path / "cache") == (
        LockedPackage(name="one", version="1:2.0-1", sha256=digest),
    )


def test_package_without_its_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(STATUS)
    with pytest.raises(ConfigError) as error:
        read_installed(tmp_path, tmp_path / "cache")
    assert error.value.reason == "quarry.cache"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """One with settings of mkosi; where it would be run there is an error, `mkosi.begins`."""

    def begin(*_details: object, **_offline: bool) -> None:
        raise ConfigError("mkosi.begins", "")

    monkeypatch.setattr(quarry_module, "prepare_sandbox", begin)
    monkeypatch.setattr(quarry_module, "read_host_sources", tuple)
    (tmp_path / "mkosi.conf").touch()
    (tmp_path / "rootfs-builder/mkosi/profiles").mkdir(parents=True)
    return Workspace(tmp_path)


def test_offline_without_a_cache_says_so_before_mkosi_runs(
    workspace: Workspace, tmp_path: Path
) -> None:
    tools, progress = ToolsTree(tmp_path / "none"), Progress(name="test")
    for offline, reason in ((True, "quarry.offline"), (False, "mkosi.begins")):
        with pytest.raises(ConfigError) as refused:
            build_quarry(workspace, tools, None, progress, offline=offline)
        assert refused.value.reason == reason


def record_of(lock: PackageLock) -> dict[str, object]:
    """What is written of a quarry that was made without a lock."""
    return {
        "configuration": hashlib.sha256(b"\0").hexdigest(),
        "lock": "",
        "packages": [[row.name, row.version, row.sha256] for row in lock.packages],
    }


@pytest.mark.parametrize(
    ("change", "lock"),
    [
        (lambda _: None, replace(LOCK, packages=LOCK.packages[1:])),
        (lambda _: None, None),
        (lambda place: (place / "mkosi.conf").write_text("[Content]"), LOCK),
        (lambda place: (place / "build/quarry/tree").rename(place / "moved"), LOCK),
    ],
    ids=["other lock", "no lock", "other settings", "no tree"],
)
def test_quarry_of_something_else_is_made_anew_and_known_for_nothing_meanwhile(
    workspace: Workspace,
    tmp_path: Path,
    change: Callable[[Path], object],
    lock: PackageLock | None,
) -> None:
    """What a build leaves that was stopped must not be taken for what was there before."""
    (workspace.quarry / "tree/usr/lib/modules/6.12").mkdir(parents=True)
    record = workspace.quarry / "record.json"
    record.write_text(json.dumps(record_of(LOCK)))
    tools, progress = ToolsTree(tmp_path / "none"), Progress(name="test")
    assert build_quarry(workspace, tools, LOCK, progress).packages == LOCK.packages
    change(tmp_path)
    with pytest.raises(ConfigError) as refused:
        build_quarry(workspace, tools, lock, progress)
    assert refused.value.reason == "mkosi.begins"
    assert not record.exists()


@pytest.mark.parametrize(
    ("lock", "newest", "pins"),
    [
        (None, False, encode_release_pin(RELEASE)),
        (None, True, ""),
        (LOCK, False, encode_apt_pins(LOCK)),
        (LOCK, True, encode_apt_pins(LOCK)),
    ],
)
@pytest.mark.parametrize("offline", [False, True])
def test_quarry_is_made_of_what_is_asked_for_and_then_used(
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lock: PackageLock | None,
    newest: bool,  # noqa: FBT001
    pins: str,
    offline: bool,  # noqa: FBT001
) -> None:
    asked: list[tuple[object, ...]] = []

    def prepare(_sandbox: Path, _host: object, pins: str, *, offline: bool) -> None:
        asked.append((pins, offline))

    def install(_workspace: Workspace, _tools: ToolsTree, *words: str, **_: object) -> bytes:
        asked.append(words)
        (workspace.quarry / "tree/usr/lib/modules/6.12").mkdir(parents=True)
        (workspace.quarry / "tree/var/lib/dpkg").mkdir(parents=True)
        (workspace.quarry / "tree/var/lib/dpkg/status").write_text(STATUS)
        return b""

    monkeypatch.setattr(quarry_module, "prepare_sandbox", prepare)
    monkeypatch.setattr(quarry_module, "run_mkosi", install)
    workspace.prepare()
    for path in ("lib/apt/lists/x_Packages", "cache/apt/archives/one_1%3a2.0-1_amd64.deb"):
        (workspace.package_cache / path).parent.mkdir(parents=True)
        (workspace.package_cache / path).write_bytes(b"deb")
    tools, progress = ToolsTree(tmp_path / "none"), Progress(name="test")
    made = build_quarry(workspace, tools, lock, progress, offline=offline, newest=newest)
    cache_only = f"--cache-only={'always' if offline else 'auto'}"
    assert asked == [(pins, offline), (cache_only, "--force", "build")]
    digest = hashlib.sha256(b"deb").hexdigest()
    assert made.packages == (LockedPackage(name="one", version="1:2.0-1", sha256=digest),)
    assert (made.kernel_release, made.modules) == ("6.12", "/usr/lib/modules/6.12")
    asked.clear()
    for known in (lock, replace(LOCK, packages=made.packages)):
        if known is not None:
            assert build_quarry(workspace, tools, known, progress) == made
    assert not asked


def test_quarry_whose_record_is_cut_or_of_another_form_is_made_anew(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that was stopped while it wrote the record must not stop all that follow."""
    (workspace.quarry / "tree/usr/lib/modules/6.12").mkdir(parents=True)
    record = workspace.quarry / "record.json"
    whole = record_of(LOCK)
    tools, progress = ToolsTree(tmp_path / "none"), Progress(name="test")
    record.write_text(json.dumps(whole))
    assert build_quarry(workspace, tools, LOCK, progress).packages == LOCK.packages
    others: tuple[object, ...] = (
        [],
        whole | {"packages": [["one", "1"]]},
        whole | {"packages": 5},
        whole | {"x": 1},
    )
    without = ({key: whole[key] for key in whole if key != gone} for gone in whole)
    other_forms = map(json.dumps, (*others, *without))
    for unusable in ("", json.dumps(whole)[:-9], *other_forms):
        record.write_text(unusable)
        with pytest.raises(ConfigError) as refused:
            build_quarry(workspace, tools, LOCK, progress)
        assert refused.value.reason == "mkosi.begins"


@pytest.mark.parametrize(
    ("kernels", "found"), [((), "none"), (("6.12", "6.13"), "6.12 and 6.13")], ids=str
)
def test_package_set_without_its_one_kernel_is_refused_by_what_it_has(
    workspace: Workspace,
    tmp_path: Path,
    kernels: tuple[str, ...],
    found: str,
) -> None:
    """As of a section whose name mkosi does not know: it goes on without the packages."""
    tree = workspace.quarry / "tree"
    tree.mkdir(parents=True)
    for kernel in kernels:
        (tree / "usr/lib/modules" / kernel).mkdir(parents=True)
    (workspace.quarry / "record.json").write_text(json.dumps(record_of(LOCK)))
    with pytest.raises(ConfigError) as refused:
        build_quarry(workspace, ToolsTree(tmp_path / "none"), LOCK, Progress(name="test"))
    assert refused.value.reason == "quarry.kernel"
    assert refused.value.detail.endswith(f"the packages of mkosi.conf, found {found}")


def test_offline_names_the_packages_that_the_cache_lacks(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mkosi's own words do not: apt only says that it was unable to fetch something."""

    def fail(*_arguments: object, output: IO[bytes]) -> bytes:
        output.write(b"".join(b"\xff %d\n" % number for number in range(20)))
        output.flush()
        raise ConfigError("tools.mkosi", "it failed")

    monkeypatch.setattr(quarry_module, "prepare_sandbox", lambda *_details, **_offline: None)
    monkeypatch.setattr(quarry_module, "run_mkosi", fail)
    workspace.prepare()
    archives = workspace.package_cache / "cache/apt/archives"
    (workspace.package_cache / "lib/apt/lists").mkdir(parents=True)
    (workspace.package_cache / "lib/apt/lists/x_Packages").touch()
    archives.mkdir(parents=True)

    def refused(*, offline: bool) -> ConfigError:
        tools, progress = ToolsTree(tmp_path / "none"), Progress(name="test")
        with pytest.raises(ConfigError) as caught:
            build_quarry(workspace, tools, LOCK, progress, offline=offline)
        return caught.value

    first, *others = LOCK.packages
    for package in others:
        (archives / f"{package.name}_{package.version.replace(':', '%3a')}_amd64.deb").touch()
    assert refused(offline=True).reason == "quarry.offline"
    told = f" has no {first.name} {first.version}: build once without --offline"
    assert refused(offline=True).detail.endswith(told)
    assert refused(offline=False).reason == "quarry.mkosi"
    first_line, *last, log = refused(offline=False).detail.splitlines()
    assert first_line == "mkosi has not installed the package set; its last words:"
    assert last == [f"\N{REPLACEMENT CHARACTER} {number}" for number in range(5, 20)]
    assert log == f"log: {workspace.mkosi / 'mkosi.log'}"
    (archives / f"{first.name}_{first.version.replace(':', '%3a')}_amd64.deb").touch()
    assert refused(offline=True).reason == "quarry.mkosi"
