"""The quarry: a Debian root, made by mkosi from locked packages, from which images take parts.

mkosi resolves, verifies and unpacks; both profiles use the same result. The quarry also provides
the tools whose output reaches the image (interpreter, mkfs.erofs, zstd, ukify), so that the lock
pins them, too. Nothing of it is in an image unless listed (`guest_image.root_tree`).
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.encoding.fields import Fields
from measured_boot.command_line.files import write_whole
from rootfs_builder.apt_sources import (
    AptSource,
    encode_deb822,
    plan_sources,
    read_host_sources,
    select_settings,
)
from rootfs_builder.packages.lock import (
    LockedPackage,
    PackageLock,
    encode_apt_pins,
    encode_release_pin,
)
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import RELEASE, ToolsTree, read_apt_configuration
from rootfs_builder.workspace import Workspace

_TREE: Final = "tree"
_RECORD: Final = "record.json"
_SEEN: Final = Path("/repository")
"""Where mkosi sees the repository: its real path may hold spaces, which mkosi cannot take."""
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
    path = workspace.quarry / _TREE
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
            _mkosi(workspace, tools, cache_only, "--force", "build", output=output)
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


def read_command_line(workspace: Workspace, tools: ToolsTree, profile: str) -> str:
    """Return the kernel command line that mkosi.conf gives for a profile, without our words."""
    workspace.prepare()
    summary = json.loads(_mkosi(workspace, tools, f"--profile={profile}", "--json", "summary"))
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


def _mkosi(
    workspace: Workspace, tools: ToolsTree, *arguments: str, output: IO[bytes] | None = None
) -> bytes:
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
        *("--format=directory", f"--output={_TREE}"),
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
