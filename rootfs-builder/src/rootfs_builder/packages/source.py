"""Open the quarry, and judge whether it is what the lock says.

An ordinary build goes on with newer packages, and says which; a release does not. No build goes on
with a package that has the locked version but other content.
"""

from dataclasses import dataclass

from ccinit.errors import ConfigError
from measured_boot.command_line.files import naming, read_text_capped
from rootfs_builder.packages.lock import (
    PackageLock,
    describe_differences,
    find_replaced_content,
    parse_lock,
)
from rootfs_builder.packages.quarry import Quarry, build_quarry
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree
from rootfs_builder.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSource:
    """Where a build gets its packages from.

    Attributes:
        workspace: the repository.
        tools: where mkosi runs.
        release: whether anything but the locked packages is refused.
        offline: whether only the cache is used.
        progress: where to say what takes time.
    """

    workspace: Workspace
    tools: ToolsTree
    release: bool
    offline: bool
    progress: Progress

    def open(self, lock: PackageLock) -> tuple[Quarry, tuple[str, ...]]:
        """Return the quarry, and how it differs from the lock.

        Raises:
            ConfigError: `quarry.…`; `lock.content`, a package of the locked version is another;
                `lock.release`.
        """
        quarry = build_quarry(self.workspace, self.tools, lock, self.progress, offline=self.offline)
        differences = describe_differences(lock.packages, quarry.packages)
        if replaced := find_replaced_content(lock.packages, quarry.packages):
            told = "\n".join(f"  {line}" for line in replaced)
            path = self.workspace.package_lock
            detail = f"not the locked files: somebody changed the archive's, or {path}:\n{told}"
            raise ConfigError("lock.content", detail)
        self.judge(differences)
        return quarry, differences

    def judge(self, differences: tuple[str, ...]) -> None:
        """Say what differs from the lock.

        Raises:
            ConfigError: `lock.release`.
        """
        if not differences:
            return
        text = "\n".join(f"  {line}" for line in differences)
        if self.release:
            raise ConfigError(
                "lock.release", f"packages are not the locked ones; `make lock` renews:\n{text}"
            )
        self.progress.say(f"WARNING: {len(differences)} packages are not the locked ones:\n{text}")


def read_lock(workspace: Workspace) -> PackageLock:
    """Return the lock file's content.

    Raises:
        ConfigError: `lock.missing`.
        FormatError: as `parse_lock`; `file.text`.
    """
    if not workspace.package_lock.is_file():
        raise ConfigError("lock.missing", f"no {workspace.package_lock.name}: run `make lock`")
    text = read_text_capped(workspace.package_lock)
    with naming(workspace.package_lock):
        return parse_lock(text)
