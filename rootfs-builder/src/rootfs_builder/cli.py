"""The `rootfs-builder` command. Each subcommand is a few lines over the module that does it."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ccinit.errors import CcinitError
from rootfs_builder import container_image_command
from rootfs_builder.builder_key import open_builder_key
from rootfs_builder.exclusive import exclusive
from rootfs_builder.image import PROFILES, ImageBuild, read_lock
from rootfs_builder.lock_command import (
    print_differences,
    renew_package_lock,
    renew_wheel_lock,
)
from rootfs_builder.progress import Progress
from rootfs_builder.publication import publish
from rootfs_builder.tools_tree import ToolsTree, build_tools_tree, open_tools_tree
from rootfs_builder.wheels import parse_requirements
from rootfs_builder.workspace import Workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status."""
    parsed = _parser().parse_args(arguments)
    os.umask(0o022)  # modes of caches and trees must not depend on who builds
    try:
        status: int = parsed.func(parsed)
    except CcinitError as error:
        sys.stderr.write(f"rootfs-builder: {error.reason}\n{error.detail}\n")
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rootfs-builder", description="Build what a ccinit guest boots."
    )
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path(),
        help="folder with mkosi.conf (default: the current one)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    tools = commands.add_parser(
        "tools", help="make the tools tree, build/tools (CCINIT_TOOLS names one that is there)"
    )
    tools.set_defaults(func=_run_tools)

    image = commands.add_parser("image", help="build the guest image")
    image.add_argument(
        "--profile",
        action="append",
        choices=PROFILES,
        help="build only this profile (may be repeated; default: all)",
    )
    image.add_argument(
        "--output", type=Path, default=Path("build/image"), help="folder for what is published"
    )
    image.add_argument(
        "--release", action="store_true", help="refuse packages that are not the locked ones"
    )
    image.add_argument(
        "--builder-key",
        type=Path,
        help="Ed25519 key that signs; made if absent (default: build/builder-key.pem)",
    )
    image.set_defaults(func=_run_image)

    lock = commands.add_parser("lock", help="renew the lock files and say what changed")
    lock.set_defaults(func=_run_lock)

    container_image_command.add_parser(commands)
    return parser


def _workspace(parsed: argparse.Namespace) -> Workspace:
    return Workspace(parsed.repository.resolve())


def _tools(workspace: Workspace) -> ToolsTree:
    package_list = workspace.lists / "tools.list"
    own = workspace.build / "tools"
    given = Path(os.environ.get("CCINIT_TOOLS", own)).resolve()
    if given != own.resolve():
        return open_tools_tree(given, package_list)
    return build_tools_tree(own, package_list, Progress(name="tools"))


def _run_tools(parsed: argparse.Namespace) -> int:
    _tools(_workspace(parsed))
    return 0


def _run_image(parsed: argparse.Namespace) -> int:
    workspace = _workspace(parsed)
    progress = Progress(name="image")
    build = ImageBuild(
        workspace=workspace,
        tools=_tools(workspace),
        output=parsed.output.resolve(),
        release=parsed.release,
        progress=progress,
    )
    for report in build.run(parsed.profile or PROFILES):
        sys.stdout.write(f"{report}\n")
    wheels = parse_requirements(workspace.guest_requirements.read_text())
    key = open_builder_key(parsed.builder_key or workspace.builder_key)
    with exclusive(workspace.image_lock, progress):
        image_id = publish(build.output, read_lock(workspace), wheels, key)
    sys.stdout.write(f"{image_id}\n")
    return 0


def _run_lock(parsed: argparse.Namespace) -> int:
    workspace = _workspace(parsed)
    progress = Progress(name="lock")
    tools = _tools(workspace)
    with exclusive(workspace.image_lock, progress):
        wheels = renew_wheel_lock(workspace, progress)
        packages = renew_package_lock(workspace, tools, progress)
    print_differences("requirements/guest.txt", wheels)
    print_differences("rootfs-builder/packages.lock", packages)
    return 0
