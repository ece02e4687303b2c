"""The peers of the boot rows: mkosi systems with systemd, on the guest's own kernel.

Built once, from the tools tree, with the versions that the guest's lock names where it names any.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from measured_boot.image.pe import parse_pe
from rootfs_builder.apt_sources import read_host_sources
from rootfs_builder.file_list import read_listed
from rootfs_builder.packages.lock import encode_apt_pins
from rootfs_builder.packages.mkosi import prepare_sandbox
from rootfs_builder.packages.source import read_lock
from rootfs_builder.workspace import Workspace
from tests.bench.guest_root import remove_others
from tests.bench.measurement import Bench, BenchError

_CONFIG: Final = Path(__file__).parent
_INSIDE: Final = Path("/systemd-image")
_PROFILES: Final = ("initrd", "disk")
_BUSYBOX: Final = "usr/bin/busybox"
_ROOT_HASH: Final = "roothash="


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemdImages:
    """The built peers, in one folder.

    Attributes:
        initrd: the smallest: a whole system, compressed.
        disk: the one with a verified root: its disk.
        disk_initrd: mkosi's initrd, which opens that root.
        busybox: a static program out of both, for guests that need a shell.
    """

    initrd: Path
    disk: Path
    disk_initrd: Path
    busybox: Path

    @property
    def root_word(self) -> str:
        """The word of the kernel's command line that names the root of the disk by its hash."""
        line = parse_pe(self.disk.with_suffix(".efi").read_bytes()).section(".cmdline")
        words = bytes(line).rstrip(b"\0").decode().split()
        (word,) = (word for word in words if word.startswith(_ROOT_HASH))
        return word


def build_systemd_images(bench: Bench) -> SystemdImages:
    """Build the peers, unless they are there already.

    Raises:
        BenchError: mkosi failed; the text ends with its last words.
    """
    workspace = Workspace(Path().absolute())
    modules = read_listed(workspace.lists / "modules.list")
    lock = read_lock(workspace)
    settings = [f"--kernel-modules-include=/({_pattern(module.name)})\\.ko" for module in modules]
    inputs = (*_read_config(), "\n".join(settings), repr(lock.packages))
    digest = hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]
    folder = (bench.cache / f"systemd-{digest}").resolve()
    output = folder / "output"
    images = SystemdImages(
        initrd=output / "system.cpio.zst",
        disk=output / "disk.raw",
        disk_initrd=output / "disk.initrd",
        busybox=folder / "busybox",
    )
    if images.busybox.is_file():
        return images
    bench.say("mkosi builds the two systems with systemd that boots are compared with, ~2 min")
    remove_others(bench.cache, "systemd-*")
    shutil.copytree(_CONFIG, folder, symlinks=True)
    for name in ("cache", "output", "packages", "workspace"):
        (folder / name).mkdir()
    prepare_sandbox(folder / "sandbox", read_host_sources(), encode_apt_pins(lock))
    try:
        for profile in _PROFILES:
            bench.tools.run(
                ("mkosi", f"--profile={profile}", *settings, "build"),
                mounts={folder: _INSIDE},
                working_directory=_INSIDE,
            )
        archive = bench.tools.run(("zstd", "-dc", images.initrd), directories=(folder,))
        program = bench.tools.run(
            ("cpio", "-i", "--quiet", "--to-stdout", _BUSYBOX), input_data=archive
        )
    except ConfigError as error:
        raise BenchError(f"a system with systemd was not built: {error.detail}") from error
    partial = images.busybox.with_suffix(".partial")
    partial.write_bytes(program)
    partial.rename(images.busybox)
    return images


def _pattern(module: str) -> str:
    """Return an expression for a module's file, whose name may have either stroke."""
    return module.replace("_", "[_-]")


def _read_config() -> tuple[str, ...]:
    files = sorted(path for path in _CONFIG.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return tuple(f"{path.name}\0{path.read_text()}" for path in files if path.suffix != ".py")
