"""The quarry: a Debian root, made by mkosi from locked packages, from which images take parts.

mkosi resolves, verifies and unpacks; both profiles use the same result. The quarry also provides
the tools whose output reaches the image (interpreter, mkfs.erofs, zstd, ukify), so that the lock
pins them, too. Nothing of it is in an image unless listed (`guest_image.root_tree`).
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.encoding.fields import Fields
from measured_boot.command_line.files import write_whole
from rootfs_builder.apt_sources import (
    read_host_sources,
)
from rootfs_builder.packages.lock import (
    LockedPackage,
    PackageLock,
    encode_apt_pins,
    encode_release_pin,
)
from rootfs_builder.packages.mkosi import TREE, prepare_sandbox, run_mkosi
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import RELEASE, ToolsTree
from rootfs_builder.workspace import Workspace

_RECORD: Final = "record.json"
_STATUS_FIELD: Final = re.compile(r"^(Package|Version|Architecture|Status): (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarry:
    """A finished quarry.

    Attributes:
        tree: its root file system.
        packages: what is installed in it, sorted by name.
        kernel_release: name of the one folder below /usr/lib/modules.
    """

    tree: ToolsTree
    packages: tuple[LockedPackage, ...]
    kernel_release: str

    @property
    def modules(self) -> str:
        """The kernel's folder, as seen inside the tree."""
        return f"/usr/lib/modules/{self.kernel_release}"

    def read(self, path: str) -> bytes:
        """Return the content of a file, its path given as seen inside the tree."""
        return self.find(path).read_bytes()

    def find(self, path: str) -> Path:
        """Return a file's path on the host, following links inside the tree.

        Raises:
            ConfigError: there is no such file.
        """
        root = self.tree.path.resolve()
        current = root
        waiting = list(reversed(Path(path).parts))
        for _ in range(256):
            if not waiting:
                return current
            part = waiting.pop()
            if part == "/":
                current = root
            elif part == "..":
                current = current.parent if current != root else root
            elif (current / part).is_symlink():
                waiting += reversed((current / part).readlink().parts)
            else:
                current = current / part
                if not current.exists():
                    break
        raise ConfigError("quarry.file", f"{path} is not in the package set")


def build_quarry(
    workspace: Workspace,
    tools: ToolsTree,
    lock: PackageLock | None,
    progress: Progress,
    *,
    offline: bool = False,
    newest: bool = False,
) -> Quarry:
    """Return the quarry for this mkosi.conf and lock, making it unless it is there already.

    Without a lock it is always made anew, from what the archive offers now.

    Args:
        workspace: the repository.
        tools: where mkosi runs.
        lock: what to ask for.
        progress: where to say what takes time.
        offline: whether package lists and packages come from the cache alone.
        newest: whether, without a lock, newer versions than the point release's are taken.

    Raises:
        ConfigError: `quarry.offline`, the cache has no package lists, or not all packages;
            `quarry.mkosi`, mkosi failed: its log is named.
    """
    workspace.prepare()
    path = workspace.quarry / TREE
    record = workspace.quarry / _RECORD
    made_of = _read_record(record)
    if lock is not None and path.is_dir() and made_of and _serves(made_of, workspace, lock):
        return _open(path, made_of.packages)
    if offline and not any((workspace.package_cache / "lib/apt/lists").glob("*_Packages*")):
        detail = f"no package lists in {workspace.package_cache}: build once without --offline"
        raise ConfigError("quarry.offline", detail)
    record.unlink(missing_ok=True)
    if lock is not None:
        pins = encode_apt_pins(lock)
    else:
        pins = "" if newest else encode_release_pin(RELEASE)
    prepare_sandbox(workspace.mkosi / "sandbox", read_host_sources(), pins, offline=offline)
    progress.say(f"mkosi installs the package set, ~60 s (log: {workspace.mkosi}/mkosi.log)")
    _install(workspace, tools, lock, offline=offline)
    packages = read_installed(path, workspace.package_cache)
    content = {
        "configuration": _digest_configuration(workspace),
        "lock": _digest_lock(lock) if lock else "",
        "packages": [[p.name, p.version, p.sha256] for p in packages],
    }
    write_whole(record, json.dumps(content).encode())
    return _open(path, packages)


def _install(
    workspace: Workspace, tools: ToolsTree, lock: PackageLock | None, *, offline: bool
) -> None:
    log = workspace.mkosi / "mkosi.log"
    cache_only = f"--cache-only={'always' if offline else 'auto'}"
    with log.open("wb") as output:
        try:
            run_mkosi(workspace, tools, cache_only, "--force", "build", output=output)
        except ConfigError as error:
            if offline and (absent := _find_absent(lock, workspace.package_cache)):
                advice = "build once without --offline"
                detail = f"{workspace.package_cache} has no {', '.join(absent)}: {advice}"
                raise ConfigError("quarry.offline", detail) from error
            last = log.read_text(errors="replace").strip().splitlines()[-15:]
            told = ["mkosi has not installed the package set; its last words:", *last]
            raise ConfigError("quarry.mkosi", "\n".join([*told, f"log: {log}"])) from error


def _find_absent(lock: PackageLock | None, cache: Path) -> list[str]:
    """Return locked packages of which the cache has no file; apt removes one that was cut."""
    return [
        f"{package.name} {package.version}"
        for package in (lock.packages if lock is not None else ())
        if not any(_archives(cache).glob(f"{package.name}_{_in_name(package.version)}_*.deb"))
    ]


def _archives(cache: Path) -> Path:
    return cache / "cache" / "apt" / "archives"


def _in_name(version: str) -> str:
    """Return a version as apt has it in the name of a file."""
    return version.replace(":", "%3a")


def read_installed(root: Path, cache: Path) -> tuple[LockedPackage, ...]:
    """Return the packages installed in a tree, with the digests of the files they came from.

    Raises:
        ConfigError: the file of an installed package is not in the cache.
    """
    archives = _archives(cache)
    packages = []
    for stanza in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = dict(_STATUS_FIELD.findall(stanza))
        if fields.get("Status") != "install ok installed":
            continue
        name, version = fields["Package"], fields["Version"]
        file = archives / f"{name}_{_in_name(version)}_{fields['Architecture']}.deb"
        if not file.is_file():
            raise ConfigError("quarry.cache", f"{file.name} is not in the package cache")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        packages.append(LockedPackage(name=name, version=version, sha256=digest))
    return tuple(sorted(packages))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What a quarry was made of: digests of `mkosi.conf` and of the lock, and what is in it."""

    configuration: str
    lock: str
    packages: tuple[LockedPackage, ...]


def _read_record(path: Path) -> _Record | None:
    """Return a quarry's record; None, which means to make it anew, if truncated or outdated."""
    try:
        with Fields(json.loads(path.read_text()), "quarry.record") as fields:
            return _Record(
                configuration=fields.text("configuration"),
                lock=fields.text("lock"),
                packages=_parse_packages(fields.value("packages")),
            )
    except (FileNotFoundError, ValueError, RecursionError, FormatError):
        return None


def _parse_packages(value: object) -> tuple[LockedPackage, ...]:
    """Return packages as the record has them: rows of name, version and SHA-256."""
    packages = []
    for row in value if isinstance(value, list) else [value]:
        match row:
            case [str(name), str(version), str(sha256)]:
                packages.append(LockedPackage(name=name, version=version, sha256=sha256))
            case _:
                raise FormatError("quarry.record.packages", "no row of a package")
    return tuple(packages)


def _serves(record: _Record, workspace: Workspace, lock: PackageLock) -> bool:
    """Whether a quarry was made for this lock, or happens to match it."""
    if record.configuration != _digest_configuration(workspace):
        return False
    return record.lock == _digest_lock(lock) or record.packages == lock.packages


def _digest_configuration(workspace: Workspace) -> str:
    digest = hashlib.sha256()
    for path in workspace.configuration():
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _digest_lock(lock: PackageLock) -> str:
    return hashlib.sha256(repr(lock.packages).encode()).hexdigest()


def _open(path: Path, packages: tuple[LockedPackage, ...]) -> Quarry:
    releases = sorted(entry.name for entry in path.glob("usr/lib/modules/*") if entry.is_dir())
    if len(releases) != 1:
        found = " and ".join(releases) or "none"
        detail = f"expected one kernel among the packages of mkosi.conf, found {found}"
        raise ConfigError("quarry.kernel", detail)
    return Quarry(tree=ToolsTree(path), packages=packages, kernel_release=releases[0])
