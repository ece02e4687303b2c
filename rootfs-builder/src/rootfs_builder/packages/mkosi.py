"""Running mkosi: what it sees of the host, which archives its apt reads, and what it is told.

Configuration is `mkosi.conf` and `rootfs-builder/mkosi`; here is what no file of it can say, since
it depends on the machine or on the project.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from rootfs_builder.apt_sources import (
    AptSource,
    encode_deb822,
    plan_sources,
    select_settings,
)
from rootfs_builder.tools_tree import RELEASE, ToolsTree, read_apt_configuration
from rootfs_builder.workspace import Workspace

TREE: Final = "tree"
"""What mkosi calls its output."""

_SEEN: Final = Path("/repository")
"""Where mkosi sees the repository: its real path may hold spaces, which mkosi cannot take."""


def read_command_line(workspace: Workspace, tools: ToolsTree, profile: str) -> str:
    """Return the kernel command line that mkosi.conf gives for a profile, without our words."""
    workspace.prepare()
    summary = json.loads(run_mkosi(workspace, tools, f"--profile={profile}", "--json", "summary"))
    return " ".join(summary["Images"][-1]["KernelCommandLine"])


def prepare_sandbox(
    sandbox: Path, host: Iterable[AptSource], pins: str, *, offline: bool = False
) -> None:
    """Write what mkosi's apt reads: archives, keyrings, settings and preferences.

    mkosi's own default archives include one for debug symbols that many mirrors lack.

    Args:
        sandbox: folder to write, emptied first.
        host: what the host's apt reads.
        pins: apt preferences; may be empty.
        offline: whether apt downloads nothing. mkosi's `--cache-only` is about lists: a package
            that the cache lacks, or has cut, would be fetched.
    """
    if sandbox.exists():
        shutil.rmtree(sandbox)
    apt = sandbox / "etc" / "apt"
    for name in ("apt.conf.d", "keyrings", "preferences.d", "sources.list.d"):
        (apt / name).mkdir(parents=True)
    sources = []
    for source in plan_sources(host, RELEASE):
        name = _copy_keyring(Path(source.signed_by), apt / "keyrings")
        sources.append(replace(source, signed_by=f"/etc/apt/keyrings/{name}"))
    (apt / "sources.list.d" / "mkosi.sources").write_text(encode_deb822(sources))
    (apt / "apt.conf.d" / "50host").write_text(select_settings(read_apt_configuration()))
    if offline:
        (apt / "apt.conf.d" / "60offline").write_text('APT::Get::Download "false";\n')
    (apt / "preferences.d" / "ccinit-lock").write_text(pins)


def _copy_keyring(keyring: Path, folder: Path) -> str:
    """Copy a keyring under a name that no other has, and return the name.

    Two folders of the host may each have a `mirror.gpg`. The name keeps its suffix, by which apt
    tells binary keyrings from armored ones.
    """
    name = f"{hashlib.sha256(bytes(keyring)).hexdigest()[:16]}-{keyring.name}"
    shutil.copyfile(keyring, folder / name)
    return name


def plan_mounts(workspace: Workspace) -> dict[Path, Path]:
    """Return what mkosi sees of the host, and where: the sources, and folders on other disks."""
    mounts = {workspace.surroundings: _SEEN}
    for folder in (
        workspace.build,
        workspace.mkosi,
        workspace.quarry,
        workspace.package_cache,
        *((workspace.mkosi / name).resolve() for name in ("cache", "sandbox", "workspace")),
    ):
        if not any(folder.is_relative_to(outer) for outer in mounts):
            mounts[folder] = Path(f"{_SEEN}-{len(mounts)}")
    return mounts


def run_mkosi(
    workspace: Workspace, tools: ToolsTree, *arguments: str, output: IO[bytes] | None = None
) -> bytes:
    """Run mkosi on the workspace's configuration; return what it prints.

    Args:
        workspace: the quarry goes into its folder, as `TREE`.
        tools: has mkosi.
        arguments: options and the verb.
        output: where its words go, in place of the result.

    Raises:
        ConfigError: as `ToolsTree.run`.
    """
    mounts = plan_mounts(workspace)

    def seen(path: Path) -> Path:
        place = path.resolve()
        outer = next(one for one in mounts if place.is_relative_to(one))
        return mounts[outer] / place.relative_to(outer)

    # Given here and not only in mkosi.conf: a project's own file may say something else, and the
    # one that it includes names folders of the repository. Its archives are added to the host's.
    sandboxes = [workspace.mkosi / "sandbox"]
    if workspace.project and (own := workspace.project / "mkosi.sandbox").is_dir():
        sandboxes.append(own)
    places = (
        *("--format=directory", f"--output={TREE}"),
        f"--output-directory={seen(workspace.quarry)}",
        f"--cache-directory={seen(workspace.mkosi / 'cache')}",
        f"--workspace-directory={seen(workspace.mkosi / 'workspace')}",
        f"--package-cache-directory={seen(workspace.package_cache)}",
        *("--sandbox-tree=", *(f"--sandbox-tree={seen(tree)}" for tree in sandboxes)),
    )
    return tools.run(
        ["mkosi", f"--directory={seen(workspace.home)}", *places, *arguments],
        mounts=mounts,
        working_directory=_SEEN,
        output=output,
    )
