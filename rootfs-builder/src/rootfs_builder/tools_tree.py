"""The tools tree: a Debian root with every program that building and testing run.

The host may be any Debian-like system, and as little as possible runs on it directly. mmdebstrap
makes the tree from the archives that the host's apt names. Commands run inside it in a mount
namespace of their own, so that neither packages nor mounts are left on the host. Needs root. What
is *in* the guest image comes from a locked package set instead (`rootfs_builder.packages.quarry`).
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from ccinit.errors import ConfigError
from rootfs_builder.apt_sources import (
    encode_one_line,
    plan_sources,
    read_host_sources,
    select_settings,
)
from rootfs_builder.exclusive import exclusive
from rootfs_builder.file_list import read_listed
from rootfs_builder.progress import Progress

RELEASE: Final = "trixie"
_KEY_FILE: Final = "etc/ccinit-tools.key"
_ENVIRONMENT: Final = {
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin",
    "TZ": "UTC",
}
# The new root is a tmpfs of mounts, so that mount points for the caller's directories appear there
# and not in the tree. Nothing forks: the process that the caller started becomes the command.
_ENTER: Final = """
tree=$1 count=$2; shift 2
new=$tree/mnt
mount -t tmpfs -o mode=755 tmpfs "$new"
for entry in "$tree"/*; do
    name=${entry##*/}
    if [ -L "$entry" ]; then cp -P "$entry" "$new/$name"; else mkdir "$new/$name"; fi
done
mount --bind "$tree/usr" "$new/usr"
mount -o remount,bind,ro "$new/usr"
for name in etc opt root var; do mount --bind "$tree/$name" "$new/$name"; done
for name in dev proc sys; do mount --rbind "/$name" "$new/$name"; done
for name in run tmp; do mount -t tmpfs -o mode=1777 tmpfs "$new/$name"; done
if [ -f "$new/etc/resolv.conf" ] && [ -f /etc/resolv.conf ]; then
    mount --bind /etc/resolv.conf "$new/etc/resolv.conf"
fi
while [ "$count" -gt 0 ]; do
    mkdir -p "$new$2"; mount --rbind "$1" "$new$2"; shift 2; count=$((count - 1))
done
exec chroot "$new" "$@"
"""


@dataclass(frozen=True, slots=True)
class ToolsTree:
    """A root file system to run commands in; any Debian tree with /mnt will do."""

    path: Path

    def command(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        *,
        directories: Sequence[Path] = (),
        mounts: Mapping[Path, Path] | None = None,
        working_directory: Path = Path("/"),
        environment: Mapping[str, str] | None = None,
    ) -> tuple[str, ...]:
        """Return the host command that runs `arguments` inside the tree.

        The process started with it *becomes* the command: its process id, signals and exit status
        are the command's.

        Args:
            arguments: the command; found by the tree's PATH.
            directories: host directories to see inside at the same absolute paths, writable.
            mounts: host directories to see inside at other paths, writable.
            working_directory: where it runs, as seen inside.
            environment: added to the fixed one; nothing else is inherited.
        """
        settings = {**_ENVIRONMENT, **(environment or {})}
        pairs = {**{path.resolve(): path.resolve() for path in directories}, **(mounts or {})}
        return (
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-euc", _ENTER, "tools-tree", str(self.path.resolve()), str(len(pairs))),
            *(str(path) for pair in pairs.items() for path in pair),
            *("/usr/bin/env", "-i", f"--chdir={working_directory}"),
            *(f"{key}={value}" for key, value in settings.items()),
            *(os.fspath(argument) for argument in arguments),
        )

    def run(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        *,
        directories: Sequence[Path] = (),
        mounts: Mapping[Path, Path] | None = None,
        working_directory: Path = Path("/"),
        environment: Mapping[str, str] | None = None,
        input_data: bytes = b"",
        output: IO[bytes] | None = None,
    ) -> bytes:
        """Run a command inside the tree and return its standard output.

        Args:
            arguments: as for `command`.
            directories: as for `command`.
            mounts: as for `command`.
            working_directory: as for `command`.
            environment: as for `command`.
            input_data: standard input.
            output: takes standard output and error instead of this call.

        Raises:
            ConfigError: `tools.missing`; `tools.root`; `tools.NAME`: the command failed; the detail
                ends with its last words.
        """
        if not (self.path / "mnt").is_dir():
            detail = f"{self.path} is not a tools tree: `rootfs-builder tools` makes build/tools"
            raise ConfigError("tools.missing", detail)
        name = Path(os.fspath(arguments[0])).name
        if os.geteuid() != 0:
            detail = f"running {name} of the tools tree needs root (chroot, mounts)"
            raise ConfigError("tools.root", detail)
        command = self.command(
            arguments,
            directories=directories,
            mounts=mounts,
            working_directory=working_directory,
            environment=environment,
        )
        done = subprocess.run(
            command,
            input=input_data,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.STDOUT if output else subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            words = (done.stderr or b"").decode(errors="replace").strip()[-2000:]
            raise ConfigError(f"tools.{name}", f"{name} ended with {done.returncode}: {words}")
        return done.stdout or b""


def tools_key(packages: Sequence[str]) -> str:
    """Return a key that decides whether an existing tree is still good."""
    return hashlib.sha256("\n".join([RELEASE, *sorted(packages)]).encode()).hexdigest()


def build_tools_tree(path: Path, package_list: Path, progress: Progress) -> ToolsTree:
    """Return the tools tree at `path`, first making it if absent or made from another list.

    Concurrent builds wait for each other; an interrupted one leaves no tree. Its hundreds of
    megabytes are not flushed to the disk: if power is lost just then, remove the tree.

    Raises:
        ConfigError: not root, no archives in the host's apt configuration, or mmdebstrap failed.
    """
    packages = tuple(entry.name for entry in read_listed(package_list))
    key = tools_key(packages)
    with exclusive(path.with_name(f"{path.name}.lock"), progress):
        if _read_key(path) == key:
            return ToolsTree(path)
        if os.geteuid() != 0:
            raise ConfigError("tools.root", "making the tools tree needs root (chroot, mounts)")
        partial = path.with_name(f"{path.name}.partial")
        _remove(partial)
        try:
            _make(partial, packages, progress)
            (partial / _KEY_FILE).write_text(f"{key}\n")
            _remove(path)
            partial.rename(path)
        finally:
            _remove(partial)
    progress.say(f"tools tree is ready: {path}")
    return ToolsTree(path)


def open_tools_tree(path: Path, package_list: Path) -> ToolsTree:
    """Return a tree that somebody else maintains; it is never made or replaced here.

    Raises:
        ConfigError: `tools.other`, there is none, or it was made from another list.
    """
    if _read_key(path) != tools_key([entry.name for entry in read_listed(package_list)]):
        raise ConfigError("tools.other", f"{path} is not the tools tree of {package_list.name}")
    return ToolsTree(path)


def read_apt_configuration() -> str:
    """Return the host's apt configuration as `apt-config dump` prints it."""
    return _capture("apt-config", "dump")


def _make(partial: Path, packages: Sequence[str], progress: Progress) -> None:
    _require_mmdebstrap(progress)
    sources = plan_sources(read_host_sources(), RELEASE)
    options = partial.with_name(f"{partial.name}.conf")
    try:
        options.write_text(select_settings(read_apt_configuration()))
        progress.say(f"making the tools tree: {len(packages)} packages with dependencies, ~60 s")
        command = (
            *("mmdebstrap", "--variant=apt", "--mode=root", f"--aptopt={options}"),
            *(f"--include={','.join(packages)}", RELEASE, str(partial), "-"),
        )
        _run_mmdebstrap(command, encode_one_line(sources).encode(), progress)
    finally:
        options.unlink(missing_ok=True)
    # A plain file to mount the host's over; a link could lead anywhere.
    resolver = partial / "etc" / "resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.touch()


def _run_mmdebstrap(command: Sequence[str], sources: bytes, progress: Progress) -> None:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with process:
        if process.stdin is None or process.stderr is None:
            raise RuntimeError("pipes were asked for")
        # If it has ended early, its words and its status say why.
        with suppress(BrokenPipeError):
            process.stdin.write(sources)
        with suppress(BrokenPipeError):
            process.stdin.close()
        words: list[str] = []
        for line in process.stderr:
            words = [*words[-20:], line.decode(errors="replace").rstrip()]
            if words[-1].startswith("I: "):
                progress.say(f"tools tree: {words[-1][3:]}")
    if process.returncode:
        told = "\n".join(["mmdebstrap has not made the tools tree; its last words:", *words])
        raise ConfigError("tools.mmdebstrap", told)


def _require_mmdebstrap(progress: Progress) -> None:
    if shutil.which("mmdebstrap"):
        return
    if shutil.which("apt-get") is None:
        raise ConfigError("tools.mmdebstrap", "this host has neither mmdebstrap nor apt-get")
    progress.say("mmdebstrap is not on this host: installing it now with apt-get (113 kB)")
    _capture("apt-get", "update")
    _capture("apt-get", "install", "--yes", "--no-install-recommends", "mmdebstrap")


def _capture(*command: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    if done.returncode:
        raise ConfigError(f"tools.{command[0]}", done.stderr.strip()[-2000:])
    return done.stdout


def _read_key(path: Path) -> str:
    try:
        return (path / _KEY_FILE).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _remove(path: Path) -> None:
    """Delete a tree, unless something is mounted in it, whose content would be deleted, too."""
    escaped = str(path.resolve()).replace(" ", "\\040")
    inside = f" {escaped}/"
    if inside in Path("/proc/self/mountinfo").read_text():
        raise ConfigError("tools.mounted", f"something is mounted below {path}")
    if path.exists():
        shutil.rmtree(path)
