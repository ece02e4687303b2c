"""Chooses what runs a guest's instructions: KVM only where it has been seen to work.

That `/dev/kvm` opens proves nothing: on some nested or paravirtual hosts firmware never comes up on
it. So a boot sector that outputs one byte is tried first, which takes about a second; the answer is
kept in the user's cache folder for this boot of the host.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from ccinit.errors import ChildError, DeadlineError
from host_runtime.machine.disks import create_disk
from host_runtime.machine.qemu import Accelerator, cpu_model, quoted
from host_runtime.programs import process
from host_runtime.programs.socket_folder import open_socket_folder
from host_runtime.programs.tools import Tools

_PROBE_SECONDS: Final = 20.0
_PROBE_WORD: Final = b"K"
# mov al,'K'; out 0xe9,al; mov al,6; mov dx,0xcf9; out dx,al (reset); hlt; jmp back to hlt
_PROBE_CODE: Final = bytes.fromhex("b04b e6e9 b006 baf90c ee f4 ebfd")
_BOOT_SECTOR: Final = _PROBE_CODE.ljust(510, b"\0") + b"\x55\xaa"
_DISK_BYTES: Final = 1024 * 1024  # SeaBIOS boots no disk that is smaller than one cylinder
_CPU_FLAGS: Final = frozenset({"vmx", "svm"})


def choose_accelerator(tools: Tools, *, cache: Path | None = None) -> Accelerator:
    """Return KVM if it works with these tools on this host, else emulation (TCG).

    `cache` is a file; without one it is in the user's cache folder.
    """
    if not has_virtualisation(Path("/proc/cpuinfo")) or not _opens(Path("/dev/kvm")):
        return Accelerator.TCG
    cache = cache or _default_cache()
    key = {"boot": _boot_id(), "tools": str(tools.tree)}
    known = None if cache is None else _read_cache(cache, key)
    if known is not None:
        return known
    chosen = Accelerator.KVM if boots(tools, Accelerator.KVM) else Accelerator.TCG
    if cache is None:
        return chosen
    with suppress(OSError):  # not ours to write, or no room: it is tried anew the next time
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps({**key, "accelerator": chosen.value}))
    return chosen


def has_virtualisation(cpuinfo: Path) -> bool:
    """Whether the processor says that it can run guests (Intel vmx, AMD svm)."""
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("flags"):
            return bool(_CPU_FLAGS & set(line.split()))
    return False


def boots(tools: Tools, accelerator: Accelerator) -> bool:
    """Whether a boot sector runs under `accelerator`: firmware, real mode, port output, reset."""
    with open_socket_folder() as folder:  # of no sockets, but the next one removes it if we die
        disk = create_disk(folder / "disk", _BOOT_SECTOR.ljust(_DISK_BYTES, b"\0"))
        said = folder / "said"
        drive = f"driver=raw,node-name=disk,file.driver=file,file.filename={quoted(disk)}"
        command = (
            *tools.command("qemu-system-x86_64"),
            *("-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"),
            *(word for path in tools.qemu_folders() for word in ("-L", str(path))),
            *("-machine", "q35", "-accel", accelerator.value, "-m", "64M"),
            *("-cpu", cpu_model(accelerator)),  # "host" fails first where KVM works only in part
            *("-blockdev", drive),
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-chardev", f"file,id=said,path={quoted(said)}"),
            *("-device", "isa-debugcon,iobase=0xe9,chardev=said"),
        )
        try:
            process.run(command, environment=tools.environment(), seconds=_PROBE_SECONDS)
        except (ChildError, DeadlineError):
            return False
        return said.read_bytes() == _PROBE_WORD


def _opens(device: Path) -> bool:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _default_cache() -> Path | None:
    folder = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(folder) if folder else Path.home() / ".cache") / "ccinit" / "accelerator.json"
    except RuntimeError:  # this user has no home
        return None


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _read_cache(cache: Path, key: dict[str, str]) -> Accelerator | None:
    try:
        known = json.loads(cache.read_text())
        if {name: known.get(name) for name in key} == key:
            return Accelerator(known["accelerator"])
    except (OSError, ValueError, KeyError, AttributeError, RecursionError):
        return None
    return None
