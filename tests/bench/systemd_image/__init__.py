"""The peer of the boot rows: an mkosi system with systemd, on the guest's own kernel.

Built once, from the tools tree, with the versions that the guest's lock names where it names any.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from rootfs_builder.apt_sources import read_host_sources
from rootfs_builder.file_list import read_listed
from rootfs_builder.packages.lock import encode_apt_pins
from rootfs_builder.packages.quarry import prepare_sandbox
from rootfs_builder.packages.source import read_lock
from rootfs_builder.workspace import Workspace
from tests.bench.guest_root import remove_others
from tests.bench.measurement import Bench, BenchError

_CONFIG: Final = Path(__file__).parent
_INSIDE: Final = Path("/systemd-image")
_BUSYBOX: Final = "usr/bin/busybox"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemdImage:
    """The built peer.

    Attributes:
        initrd: the whole system, compressed.
        busybox: the static program out of it, for guests that need a shell.
    """

    initrd: Path
    busybox: Path


def build_systemd_image(bench: Bench) -> SystemdImage:
    """Build the peer, unless it is there already.

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
    image = SystemdImage(initrd=folder / "output/system.cpio.zst", busybox=folder / "busybox")
    if image.busybox.is_file():
        return image
    bench.say("mkosi builds the system with systemd that boots are compared with, ~60 s")
    remove_others(bench.cache, "systemd-*")
    shutil.copytree(_CONFIG, folder, symlinks=True)
    for name in ("cache", "output", "packages", "workspace"):
        (folder / name).mkdir()
    prepare_sandbox(folder / "sandbox", read_host_sources(), encode_apt_pins(lock))
    try:
        bench.tools.run(
            ("mkosi", *settings, "build"), mounts={folder: _INSIDE}, working_directory=_INSIDE
        )
        archive = bench.tools.run(("zstd", "-dc", image.initrd), directories=(folder,))
        program = bench.tools.run(
            ("cpio", "-i", "--quiet", "--to-stdout", _BUSYBOX), input_data=archive
        )
    except ConfigError as error:
        raise BenchError(f"the system with systemd was not built: {error.detail}") from error
    partial = image.busybox.with_suffix(".partial")
    partial.write_bytes(program)
    partial.rename(image.busybox)
    return image


def _pattern(module: str) -> str:
    """Return an expression for a module's file, whose name may have either stroke."""
    return module.replace("_", "[_-]")


def _read_config() -> tuple[str, ...]:
    files = sorted(path for path in _CONFIG.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return tuple(f"{path.name}\0{path.read_text()}" for path in files if path.suffix != ".py")
