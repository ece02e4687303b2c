"""Runs programs of a tools tree (a Debian root directory) without chroot and without root rights.

The tree's own dynamic loader is started by path, with the tree's libraries and none of the host's.
Programs get no `LD_LIBRARY_PATH`, so what they start is not affected. Without a tree the host's
installed programs are used. What to run is left to the modules that run it.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError

_LOADER: Final = "lib64/ld-linux-x86-64.so.2"
_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
# Libraries that Debian's programs find by RUNPATH, which points outside the tree.
_PRIVATE_LIBRARIES: Final = ("swtpm", "systemd")
_PROGRAM_FOLDERS: Final = ("usr/bin", "usr/sbin", "usr/libexec")
_SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_SYSTEM_ROOT: Final = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Where programs and their data come from; `tree` None means the host's own."""

    tree: Path | None = None

    def path(self, relative: str) -> Path:
        """Return the path of a data file, given relative to the root of tree or host.

        Raises:
            ConfigError: `tools.file`: it is not there.
        """
        path = (self.tree or _SYSTEM_ROOT) / relative
        if not path.exists():
            raise ConfigError("tools.file", f"{path} is missing: {self._advice()}")
        return path

    def command(self, program: str) -> tuple[str, ...]:
        """Return the first words of a command that runs `program`.

        Raises:
            ConfigError: `tools.program`: it is not there.
        """
        if self.tree is None:
            return (self._find_installed(program),)
        libraries = self.tree / _LIBRARIES
        search = (libraries, *(libraries / name for name in _PRIVATE_LIBRARIES))
        return (
            str(self.tree / _LOADER),
            "--library-path",
            ":".join(map(str, search)),
            "--argv0",
            program,
            str(self._find_in_tree(self.tree, program)),
        )

    def qemu_folders(self) -> tuple[Path, ...]:
        """Return where QEMU finds its option ROMs and BIOS.

        Raises:
            ConfigError: as `path`.
        """
        return tuple(map(self.path, ("usr/share/qemu", "usr/share/seabios")))

    def environment(self) -> Mapping[str, str]:
        """Return a small environment for programs: nothing of the caller's but its temporary dir.

        QEMU and OpenSSL look for modules below compiled-in paths, which are the host's.
        """
        environment = {"PATH": _SYSTEM_PATH, "LC_ALL": "C.UTF-8"}
        if "TMPDIR" in os.environ:
            environment["TMPDIR"] = os.environ["TMPDIR"]
        if self.tree is not None:
            environment["QEMU_MODULE_DIR"] = str(self.tree / _LIBRARIES / "qemu")
            environment["OPENSSL_MODULES"] = str(self.tree / _LIBRARIES / "ossl-modules")
        return environment

    def _find_installed(self, program: str) -> str:
        found = shutil.which(program, path=_SYSTEM_PATH)
        if found is None:
            raise ConfigError("tools.program", f"{program} is not installed: {self._advice()}")
        return found

    def _find_in_tree(self, tree: Path, program: str) -> Path:
        for folder in _PROGRAM_FOLDERS:
            path = tree / folder / program
            if path.is_file():
                return path
        raise ConfigError("tools.program", f"{program} is not in {tree}: {self._advice()}")

    def _advice(self) -> str:
        if self.tree is None:
            return "install it, or name a tools tree"
        return "build the tools tree anew"
