"""The root of a container image from Debian packages, none of which is executed.

apt resolves and verifies the packages in the tools tree, dpkg-deb unpacks them. What their
maintainer scripts would do is left out, except for two things that programs cannot do without: the
users of base-passwd, and the bundle of ca-certificates.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from rootfs_builder.container_image.layer_tar import EPOCH
from rootfs_builder.exclusive import exclusive
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree

FOUNDATION: Final = ("base-files", "base-passwd")
"""The links /bin and /lib64, by which scripts and programs name their interpreters; users."""


def fetch_packages(tools: ToolsTree, directory: Path, packages: Sequence[str]) -> tuple[Path, ...]:
    """Return the files of `packages` and all they depend on, sorted by name.

    This includes what no package depends on because every system has it (`FOUNDATION`). apt gets an
    empty status file, so that packages in the tools tree do not count. Concurrent builds wait for
    each other.

    Args:
        tools: runs apt.
        directory: keeps what was downloaded for the next time.
        packages: names, as apt takes them.

    Raises:
        ConfigError: `tools.apt-get`, `container_image.packages`.
    """
    packages = (*FOUNDATION, *packages)
    for name in ("lists/partial", "archives/partial"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    status = directory / "status"
    options = (
        *("-o", f"Dir::State::lists={directory / 'lists'}"),
        *("-o", f"Dir::State::status={status}"),
        *("-o", f"Dir::Cache::archives={directory / 'archives'}"),
        *("-o", f"Dir::Cache::pkgcache={directory / 'pkgcache.bin'}"),
        *("-o", f"Dir::Cache::srcpkgcache={directory / 'srcpkgcache.bin'}"),
        *("-o", "APT::Install-Recommends=false", "-o", "APT::Sandbox::User=root", "-y", "-q"),
    )

    def apt(*arguments: str) -> str:
        return tools.run(("apt-get", *options, *arguments), directories=(directory,)).decode()

    with exclusive(directory / "build.lock", Progress(name="container-image")):
        status.write_text("")
        try:
            apt("install", "--download-only", *packages)
        except ConfigError:  # no lists yet, or the archive has changed since they were fetched
            apt("update")
            apt("install", "--download-only", *packages)
        plan = apt("install", "--simulate", *packages)
    wanted: list[Path] = []
    for line in plan.splitlines():
        action, _blank, rest = line.partition(" ")
        if action == "Inst":
            name, _blank, details = rest.partition(" ")
            version = details.lstrip("(").partition(" ")[0].replace(":", "%3a")
            wanted += (directory / "archives").glob(f"{name}_{version}_*.deb")
    if not wanted:
        raise ConfigError("container_image.packages", "apt resolved no package")
    return tuple(sorted(wanted))


def extract_packages(tools: ToolsTree, files: Iterable[Path], root: Path) -> None:
    """Unpack packages over each other; their maintainer scripts do not run."""
    files = tuple(files)
    loop = 'root=$1; shift; for file; do dpkg-deb --extract "$file" "$root"; done'
    folders = tuple(sorted({file.parent for file in files}))
    tools.run(("sh", "-euc", loop, "extract", root, *files), directories=(*folders, root))


def settle_users(root: Path, more_users: str = "", more_groups: str = "") -> None:
    """Write `etc/passwd` and `etc/group` as base-passwd would, if it is there; add some lines."""
    for name, master, more in (
        ("passwd", "passwd.master", more_users),
        ("group", "group.master", more_groups),
    ):
        source = root / "usr/share/base-passwd" / master
        if source.is_file():
            _write(root / "etc" / name, source.read_text().replace(":*:", ":x:") + more)


def settle_certificates(root: Path) -> None:
    """Write the bundle of ca-certificates, if that package is there."""
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    if authorities:
        bundle = root / "etc/ssl/certs/ca-certificates.crt"
        _write(bundle, "".join(path.read_text() for path in authorities))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (EPOCH, EPOCH))
