"""What a renewed lock changes is said in full."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rootfs_builder.packages import lock_command
from rootfs_builder.packages.lock import LockedPackage, PackageLock, encode_lock, parse_lock
from rootfs_builder.packages.lock_command import (
    describe_wheel_differences,
    print_differences,
    print_passed_over,
    renew_package_lock,
    renew_wheel_lock,
)
from rootfs_builder.packages.quarry import Quarry
from rootfs_builder.packages.wheels import (
    Requirement,
    describe_wheel,
    encode_requirements,
    read_requirements,
)
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree
from rootfs_builder.workspace import Workspace
from tests.unit.rootfs_builder.packages.small_lock import LOCK
from tests.unit.rootfs_builder.packages.wheel_files import wheel


def requirement(name: str, version: str, digit: str = "a") -> Requirement:
    return Requirement(name=name, version=version, sha256=frozenset({digit * 64}))


def test_wheels_that_came_went_or_changed_are_named() -> None:
    old = (requirement("a", "1"), requirement("b", "1"), requirement("same", "1"))
    new = (requirement("a", "2"), requirement("c", "1"), requirement("same", "1"))
    assert describe_wheel_differences(old, new) == (
        "a: 1 -> 2",
        "b: 1 -> absent",
        "c: absent -> 1",
    )


def test_other_file_of_the_same_version_is_a_difference() -> None:
    old, new = (requirement("a", "1", "a"),), (requirement("a", "1", "b"),)
    assert describe_wheel_differences(old, new) == ("a: 1 -> 1",)


def test_summary_counts_and_lists(capsys: pytest.CaptureFixture[str]) -> None:
    print_differences("file", ("a: 1 -> 2",))
    print_differences("other", ())
    assert capsys.readouterr().out == "file: 1 changes\n  a: 1 -> 2\nother: no changes\n"


def test_versions_passed_over_are_counted_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    print_passed_over(("a: 1; trixie-security has 2",))
    print_passed_over(())
    assert capsys.readouterr().out == (
        "point release preferred over newer versions: 1\n"
        "  a: 1; trixie-security has 2\n"
        "security updates may be among them: `lock --newest` takes them\n"
        "point release preferred over newer versions: none\n"
    )


def test_renewed_lock_says_what_became_older(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By dpkg's order, in which 1.10 is newer than 1.9."""
    workspace = Workspace(tmp_path)
    workspace.package_lock.parent.mkdir(parents=True)
    locked = tuple(LockedPackage(name=n, version="1.9", sha256="a" * 64) for n in ("a", "b"))
    date = datetime(2026, 1, 2, tzinfo=UTC)
    workspace.package_lock.write_text(encode_lock(PackageLock(date=date, packages=locked)))
    used = (replace(locked[0], version="1.10"), replace(locked[1], version="1.9~rc1"))
    quarry = Quarry(tree=ToolsTree(tmp_path), packages=used, kernel_release="6.12")

    def run(_tree: ToolsTree, command: tuple[str, ...]) -> bytes:
        *_, version, relation, other = command
        assert "dpkg" in command
        assert relation == "gt"
        return b"yes\n" if (version, other) == ("1.9", "1.9~rc1") else b""

    monkeypatch.setattr(ToolsTree, "run", run)
    monkeypatch.setattr(lock_command, "build_quarry", lambda *_, **__: quarry)
    monkeypatch.setattr(lock_command, "read_versions", lambda _: {})
    differences, _ = renew_package_lock(workspace, ToolsTree(tmp_path), Progress(name="lock"))
    assert differences == ("a: 1.9 -> 1.10", "b: 1.9 -> 1.9~rc1 (older)")
    assert parse_lock(workspace.package_lock.read_text()).packages == used


@pytest.mark.parametrize("newest", [False, True])
def test_lock_is_made_with_the_present_time_and_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    newest: bool,  # noqa: FBT001
) -> None:
    """Guests believe no time before its date, and images of the same packages are the same."""
    workspace, tools = Workspace(tmp_path), ToolsTree(tmp_path)
    workspace.package_lock.parent.mkdir(parents=True)
    quarry = Quarry(tree=tools, packages=LOCK.packages, kernel_release="6.12")
    asked: list[object] = []

    def build_quarry(*given: object, newest: bool) -> Quarry:
        asked.append((given[2], newest))
        return quarry

    monkeypatch.setattr(lock_command, "build_quarry", build_quarry)
    monkeypatch.setattr(lock_command, "read_versions", lambda _: {})

    def renew() -> tuple[str, ...]:
        return renew_package_lock(workspace, tools, Progress(name="lock"), newest=newest)[0]

    before = datetime.now(UTC).replace(microsecond=0)
    assert renew() == ("a: new, 1:2.0-1", "b: new, 3~rc1")
    made = parse_lock(workspace.package_lock.read_text())
    assert made.packages == LOCK.packages
    assert before <= made.date <= datetime.now(UTC)
    workspace.package_lock.write_text(encode_lock(LOCK))
    assert renew() == ()
    assert workspace.package_lock.read_text() == encode_lock(LOCK)
    assert asked == [(None, newest)] * 2


def test_wheels_that_pip_finds_are_locked_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path)
    path = workspace.guest_requirements
    path.parent.mkdir(parents=True)
    asked: list[Sequence[str]] = []

    def run_pip(command: Sequence[str]) -> None:
        asked.append(command)
        wheel(Path(command[command.index("--dest") + 1]), "b-2-py3-none-any.whl", {"b.py": b""})

    monkeypatch.setattr(lock_command, "run_pip", run_pip)
    assert renew_wheel_lock(workspace, Progress(name="lock")) == ("b: absent -> 2",)
    assert asked[0][-1] == str(path.with_suffix(".in"))
    (kept,) = workspace.wheel_cache.iterdir()
    assert read_requirements(path) == (describe_wheel(kept),)
    path.write_text(encode_requirements((requirement("a", "1"), requirement("b", "1"))))
    changes = ("a: 1 -> absent", "b: 1 -> 2")
    assert renew_wheel_lock(workspace, Progress(name="lock")) == changes
    assert read_requirements(path) == (describe_wheel(kept),)
