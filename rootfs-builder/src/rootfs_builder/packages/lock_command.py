"""Renew the lock files: which Debian packages and which wheels the next images are made of."""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from measured_boot.command_line.files import write_whole
from rootfs_builder.packages.apt_lists import list_passed_over, read_versions
from rootfs_builder.packages.lock import PackageLock, describe_differences, encode_lock
from rootfs_builder.packages.quarry import build_quarry
from rootfs_builder.packages.source import read_lock
from rootfs_builder.packages.wheels import (
    Requirement,
    describe_wheel,
    download_command,
    encode_requirements,
    read_requirements,
    run_pip,
)
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import RELEASE, ToolsTree
from rootfs_builder.workspace import Workspace

_WHEEL_HEADER: Final = (
    "# Python packages of the guest image, each with its one wheel (guest.in says why each).\n"
    "# Written by `rootfs-builder lock`.\n"
)


def renew_package_lock(
    workspace: Workspace, tools: ToolsTree, progress: Progress, *, newest: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write a lock of what the archive offers now; return what changed, and what was passed over.

    If nothing changed, the file stays as it is, date included. Older versions than before are
    marked: mkosi's apt accepts lists of any age, so an archive could serve last year's. "Passed
    over" are newer versions in suites other than the point release.

    Args:
        workspace: the repository.
        tools: where mkosi runs.
        progress: where to say what takes time.
        newest: whether to take newer versions instead of passing them over.

    Raises:
        ConfigError: mkosi failed.
    """

    def is_newer(version: str, other: str) -> bool:
        compare = ("dpkg", "--compare-versions", version, "gt", other)
        return tools.run(("sh", "-c", '"$@" && echo yes || true', "compare", *compare)) == b"yes\n"

    path = workspace.package_lock
    old = read_lock(workspace) if path.is_file() else None
    quarry = build_quarry(workspace, tools, None, progress, newest=newest)
    differences = describe_differences(old.packages if old else (), quarry.packages, is_newer)
    if old is None or differences:
        now = datetime.now(UTC).replace(microsecond=0)
        write_whole(path, encode_lock(PackageLock(date=now, packages=quarry.packages)).encode())

    versions = read_versions(workspace.package_cache / "lib/apt/lists")
    return differences, list_passed_over(versions, quarry.packages, RELEASE, is_newer)


def renew_wheel_lock(workspace: Workspace, progress: Progress) -> tuple[str, ...]:
    """Write a lock of the newest wheels of what `guest.in` names and return what changed.

    Raises:
        ConfigError: pip failed.
    """
    path = workspace.guest_requirements
    old = read_requirements(path) if path.is_file() else ()
    progress.say("asking for the newest wheels of requirements/guest.in")
    workspace.prepare()
    with tempfile.TemporaryDirectory(dir=workspace.wheel_cache) as folder:
        run_pip(download_command(path.with_suffix(".in"), Path(folder)))
        wheels = tuple(Path(folder).glob("*.whl"))
        new = tuple(describe_wheel(wheel) for wheel in wheels)
        for wheel in wheels:
            shutil.move(wheel, workspace.wheel_cache / wheel.name)
    write_whole(path, f"{_WHEEL_HEADER}{encode_requirements(new)}".encode())
    return describe_wheel_differences(old, new)


def describe_wheel_differences(
    old: tuple[Requirement, ...], new: tuple[Requirement, ...]
) -> tuple[str, ...]:
    """Return one line for each Python package that differs."""
    before = {requirement.name: requirement for requirement in old}
    after = {requirement.name: requirement for requirement in new}
    return tuple(
        f"{name}: {_version(before, name)} -> {_version(after, name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def print_differences(what: str, differences: tuple[str, ...]) -> None:
    """Say what a renewed lock changes."""
    changes = f"{what}: {len(differences) or 'no'} changes"
    print(changes, *differences, sep="\n  ")


def print_passed_over(lines: tuple[str, ...]) -> None:
    """Say which packages are the point release's although another suite has a newer one."""
    preferred = f"point release preferred over newer versions: {len(lines) or 'none'}"
    print(preferred, *lines, sep="\n  ")
    if lines:
        print("security updates may be among them: `lock --newest` takes them")


def _version(requirements: dict[str, Requirement], name: str) -> str:
    return requirements[name].version if name in requirements else "absent"
