"""Where a build reads and writes; the only place that knows a path of the repository.

A build is of the repository itself, or of a project: somebody else's mkosi configuration that
includes ours, with lists of what their image has besides (docs/examples).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError, FormatError
from rootfs_builder.file_list import Listed, read_listed

DEBUG_TOOLS_LIST: Final = "debug-tools.list"
"""The one list that decides nothing in an image."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The repository, or a project beside it, with a `build` folder.

    Nothing is written outside of `build` except downloads, which projects share with the
    repository. `build` and the folders in it may be links to another disk: paths here are resolved,
    so that they mean the same in the tools tree, where the host's links are not visible.
    """

    repository: Path
    project: Path | None = None

    @property
    def home(self) -> Path:
        """The folder whose mkosi.conf is built."""
        return self.project or self.repository

    @property
    def surroundings(self) -> Path:
        """A folder that contains both repository and project, so that includes resolve.

        Raises:
            ConfigError: `project.place`, there is only `/`.
        """
        common = Path(os.path.commonpath((self.repository.resolve(), self.home.resolve())))
        if common == Path("/"):
            raise ConfigError("project.place", "project and repository share no folder but /")
        return common

    @property
    def lists(self) -> Path:
        """Data files that say what is in the tools tree, the root and the initrd."""
        return self.repository / "rootfs-builder" / "mkosi"

    @property
    def guest_requirements(self) -> Path:
        """Locked Python packages of the guest."""
        return self.repository / "requirements" / "guest.txt"

    @property
    def package_lock(self) -> Path:
        """Locked Debian packages of the guest."""
        if self.project is not None:
            return self.project / "packages.lock"
        return self.repository / "rootfs-builder" / "packages.lock"

    @property
    def guest_sources(self) -> Path:
        """The guest's own Python package."""
        return self.repository / "ccinit"

    @property
    def build(self) -> Path:
        """Everything that is made."""
        return (self.home / "build").resolve()

    @property
    def tools(self) -> Path:
        """The tools tree."""
        return (self.repository / "build" / "tools").resolve()

    @property
    def mkosi(self) -> Path:
        """What mkosi reads and writes (for the repository, the paths in mkosi.conf)."""
        return (self.build / "mkosi").resolve()

    @property
    def quarry(self) -> Path:
        """The package set that images are made of, and its record.

        Not where a plain `mkosi build` puts its result, which nobody has compared with a lock.
        """
        return (self.build / "quarry").resolve()

    @property
    def package_cache(self) -> Path:
        """Debian packages as downloaded."""
        return (self.repository / "build" / "cache" / "packages").resolve()

    @property
    def wheel_cache(self) -> Path:
        """Wheels as downloaded."""
        return (self.repository / "build" / "cache" / "wheels").resolve()

    @property
    def staging(self) -> Path:
        """Trees and parts on their way into an image."""
        return (self.build / "staging").resolve()

    @property
    def builder_key(self) -> Path:
        """The key that signs what is published."""
        return self.build / "builder-key.pem"

    @property
    def image_lock(self) -> Path:
        """Held by whoever writes below `mkosi`, `staging` and the caches."""
        return self.repository / "build" / "image.lock"

    def read_list(self, name: str) -> tuple[Listed, ...]:
        """Return the entries of a list, the project's last.

        Raises:
            FormatError: `list.…`.
        """
        folders = (self.lists, *([self.project] if self.project else []))
        paths = [folder / name for folder in folders if (folder / name).is_file()]
        entries = tuple(entry for path in paths for entry in read_listed(path))
        names = [entry.name for entry in entries]
        if twice := sorted({entry for entry in names if names.count(entry) > 1}):
            raise FormatError("list.twice", f"{name}: listed by both: {', '.join(twice)}")
        return entries

    def configuration(self) -> Iterator[Path]:
        """Return every file that decides what mkosi makes: of a project, all but its lists."""
        yield self.repository / "mkosi.conf"
        yield from sorted((self.lists / "profiles").iterdir())
        for path in self.project_files():
            if path.suffix not in {".list", ".lock"}:
                yield path

    def project_files(self) -> Iterator[Path]:
        """Return every file of the project that is not made."""
        if self.project is None:
            return
        for path in sorted(self.project.rglob("*")):
            if path.is_file() and not path.is_relative_to(self.build) and path.suffix != ".md":
                yield path

    def prepare(self) -> None:
        """Make the folders that must exist before mkosi starts."""
        for path in (
            self.mkosi / "cache",
            self.quarry,
            self.mkosi / "sandbox",
            self.mkosi / "workspace",
            self.package_cache,
            self.wheel_cache,
            self.staging,
        ):
            path.mkdir(parents=True, exist_ok=True)
