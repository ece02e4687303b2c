"""The `rootfs-builder` command. Each subcommand is a few lines over the module that does it."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ccinit.errors import ConfigError
from measured_boot.command_line.errors import EXIT_STATUS, run_command
from measured_boot.command_line.files import naming_place
from measured_boot.command_line.subcommands import (
    add_command,
    add_commands,
    make_parser,
    run_chosen,
)
from rootfs_builder.container_image import command as container_image_command
from rootfs_builder.exclusive import exclusive
from rootfs_builder.guest_image.build import PROFILES, ImageBuild
from rootfs_builder.guest_image.debug_tools import DebugToolsBuild
from rootfs_builder.guest_image.difference import explain_folders
from rootfs_builder.guest_image.erofs_reader import ErofsFile, read_erofs
from rootfs_builder.guest_image.suitability import require_suitable
from rootfs_builder.made_folder import made_folder
from rootfs_builder.packages.lock_command import (
    print_differences,
    print_passed_over,
    renew_package_lock,
    renew_wheel_lock,
)
from rootfs_builder.packages.mkosi import read_command_line
from rootfs_builder.packages.quarry import build_quarry
from rootfs_builder.packages.source import PackageSource, read_lock
from rootfs_builder.packages.wheels import read_requirements
from rootfs_builder.progress import Progress
from rootfs_builder.publication.builder_key import open_builder_key
from rootfs_builder.publication.publish import publish
from rootfs_builder.tools_tree import ToolsTree, build_tools_tree, open_tools_tree
from rootfs_builder.workspace import Workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status."""
    return run_command("rootfs-builder", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    os.umask(0o022)  # modes of caches and trees must not depend on the user's umask
    return run_chosen(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("rootfs-builder", "Build what a ccinit guest boots.", EXIT_STATUS)
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="folder with mkosi.conf (default: the current one)",
    )
    commands = add_commands(parser)

    tools = add_command(commands, "tools", "Make the tools tree, or check the one of CCINIT_TOOLS.")
    tools.set_defaults(func=_run_tools)

    _add_image(
        add_command(commands, "image", "Build the guest image, and what is published with it.")
    )

    lock = add_command(commands, "lock", "Renew the lock files and say what changed.")
    lock.add_argument(
        "--newest",
        action="store_true",
        help="take -security and -updates where they are newer than the point release",
    )
    _add_project(lock)
    lock.set_defaults(func=_run_lock)

    words = "Say in words where two folders of published files differ first."
    compare = add_command(commands, "compare", words)
    compare.add_argument(
        "first", type=Path, metavar="FOLDER", help="as `rootfs-builder image` left it"
    )
    compare.add_argument("second", type=Path, metavar="OTHER", help="the same")
    compare.set_defaults(func=_run_compare)

    container_image_command.add_parser(commands)
    return parser


def _add_image(image: argparse.ArgumentParser) -> None:
    image.add_argument(
        "--profile",
        action="append",
        choices=PROFILES,
        help="build only this profile (may be repeated; default: all)",
    )
    image.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder for the files to publish; an earlier build there is replaced (default:"
        " build/image; for a project, within the project)",
    )
    image.add_argument(
        "--release", action="store_true", help="refuse packages that differ from the lock file"
    )
    image.add_argument(
        "--builder-key",
        type=Path,
        metavar="FILE",
        help="Ed25519 key that signs; made if absent (default: build/builder-key.pem)",
    )
    image.add_argument(
        "--offline", action="store_true", help="use packages and lists of the cache alone"
    )
    _add_project(image)
    image.set_defaults(func=_run_image)


def _add_project(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--project",
        type=Path,
        metavar="FOLDER",
        help="folder of a mkosi.conf that includes ours, with lists of what it adds",
    )


def _workspace(parsed: argparse.Namespace) -> Workspace:
    if not (parsed.repository / "mkosi.conf").is_file():
        detail = f"{parsed.repository.resolve()} has no mkosi.conf: name ccinit's --repository"
        raise ConfigError("repository.missing", detail)
    project: Path | None = getattr(parsed, "project", None)
    if project is not None and not (project / "mkosi.conf").is_file():
        raise ConfigError("project.missing", f"{project} has no mkosi.conf")
    return Workspace(parsed.repository.resolve(), project.resolve() if project else None)


def _tools(workspace: Workspace, *, offline: bool = False) -> ToolsTree:
    package_list = workspace.lists / "tools.list"
    own = workspace.tools
    given = Path(os.environ.get("CCINIT_TOOLS") or own).resolve()
    if offline or given != own.resolve():
        return open_tools_tree(given, package_list)
    return build_tools_tree(own, package_list, Progress(name="tools"))


def _run_tools(parsed: argparse.Namespace) -> int:
    _tools(_workspace(parsed))
    return 0


def _run_image(parsed: argparse.Namespace) -> int:
    workspace = _workspace(parsed)
    progress = Progress(name="image")
    output = (parsed.output or workspace.build / "image").resolve()
    path = parsed.builder_key or workspace.builder_key
    key = open_builder_key(path, progress)  # not minutes later
    with made_folder(output):
        packages = PackageSource(
            workspace=workspace,
            tools=_tools(workspace, offline=parsed.offline),
            release=parsed.release,
            offline=parsed.offline,
            progress=progress,
        )
        with naming_place(workspace.staging):
            reports = ImageBuild(packages=packages, output=output).run(parsed.profile or PROFILES)
        for report in reports:
            print(report)
        if workspace.project is None:
            with naming_place(workspace.staging):
                DebugToolsBuild(packages=packages, output=output).run()
        wheels = read_requirements(workspace.guest_requirements)
        with naming_place(output), exclusive(workspace.image_lock, progress):
            image_id = publish(output, read_lock(workspace), wheels, key)
    print(image_id)
    return 0


def _run_lock(parsed: argparse.Namespace) -> int:
    workspace = _workspace(parsed)
    progress = Progress(name="lock")
    tools = _tools(workspace)
    wheels: tuple[str, ...] = ()
    with exclusive(workspace.image_lock, progress):
        if workspace.project is None:
            wheels = renew_wheel_lock(workspace, progress)
        packages, passed_over = renew_package_lock(workspace, tools, progress, newest=parsed.newest)
        if workspace.project is None:
            print_differences("requirements/guest.txt", wheels)
        print_differences(os.path.relpath(workspace.package_lock, workspace.home), packages)
        print_passed_over(passed_over)
        # Reported now rather than when an image is made.
        quarry = build_quarry(workspace, tools, read_lock(workspace), progress)
        for profile in PROFILES:
            require_suitable(workspace, quarry, read_command_line(workspace, tools, profile))
    return 0


def _run_compare(parsed: argparse.Namespace) -> int:
    def open_erofs(image: bytes) -> Mapping[str, ErofsFile]:
        # Only when needed: a comparison without a difference needs neither repository nor tools.
        return read_erofs(_tools(_workspace(parsed)), image)

    difference = explain_folders(parsed.first, parsed.second, open_erofs)
    print(difference or "the same bytes")
    return 1 if difference else 0
