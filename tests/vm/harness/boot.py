"""Boots one test guest under software emulation and brings back what pytest reported inside.

The guest writes one JSON object per line to a virtio port, which QEMU stores in a file; the console
goes to another file and is for reading only when results are missing.

QEMU's emulation fails an assertion of its own now and then, on a busy machine, as the guest starts
(`iotlb_to_section`). That tells nothing of the guest, and all of its tests would fail: so it is
started once more, if it has not said a word yet. Both starts are boots, and the first one's name in
the list of boots says what became of it.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from host_runtime.machine.swtpm import manufacture_tpm
from host_runtime.programs.process import OwnedProcess
from host_runtime.programs.tools import Tools
from rootfs_builder.tools_tree import ToolsTree
from tests.vm.harness.boots import record_boot
from tests.vm.harness.guest_disks import DISKS, RESIZED, UNPLUGGED, GuestDisk
from tests.vm.harness.hostile_host import host_arguments, hostile_host
from tests.vm.harness.initrd import write_initrd
from tests.vm.harness.kernel_package import open_guest_kernel
from tests.vm.harness.site_packages import open_site_packages

TOOLS = Path(os.environ.get("CCINIT_TOOLS", "build/tools"))
CACHE = Path("build/cache/vm")
WORK = Path("build/vm")

MEMORY_MIB = 512
COMMAND_LINE = "console=ttyS0 loglevel=4 panic=-1 rdinit=/init"
_TIMEOUT_SECONDS = 900.0
_CONSOLE_TAIL_BYTES = 16_384
_OWN_ASSERTION = re.compile(r"^.*: Assertion `.*' failed\.$", re.MULTILINE)


class QemuFailedError(RuntimeError):
    """QEMU ended itself, by an assertion about itself, before the guest had said a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootResult:
    """What one boot left behind.

    Attributes:
        reports: pytest's serialised reports, by node id, in the order they came.
        console: the end of the kernel's and pytest's text.
        seconds: from the start of QEMU to its end.
    """

    reports: dict[str, list[dict[str, object]]]
    console: str
    seconds: float


def boot_guest(
    node_ids: Sequence[str],
    name: str = "guest tests",
    *,
    modules: Sequence[str] = (),
    is_under_systemd: bool = False,
) -> BootResult:
    """Boot a guest that runs `node_ids`, and wait until it has reset itself.

    Args:
        node_ids: tests, as pytest names them.
        name: of the boot in the list of boots.
        modules: of the kernel, besides those of every test guest.
        is_under_systemd: whether systemd is the guest's PID 1.

    Raises:
        ConfigError: a tool is missing or failed.
        RuntimeError: QEMU failed; by an assertion of its own, for the second time.
    """
    try:
        return _boot_once(node_ids, name, modules, is_under_systemd=is_under_systemd)
    except QemuFailedError:
        return _boot_once(node_ids, name, modules, is_under_systemd=is_under_systemd)


def _boot_once(
    node_ids: Sequence[str], name: str, modules: Sequence[str], *, is_under_systemd: bool
) -> BootResult:
    tools = ToolsTree(TOOLS)
    WORK.mkdir(parents=True, exist_ok=True)
    kernel = open_guest_kernel(tools, CACHE)
    site = open_site_packages(tools, CACHE)
    with tempfile.TemporaryDirectory(prefix="guest-", dir=WORK) as directory:
        work = Path(directory).resolve()
        write_initrd(
            work / "initrd",
            tools,
            kernel,
            site,
            node_ids,
            modules,
            is_under_systemd=is_under_systemd,
        )
        shutil.copy2(kernel.image, work / "kernel")
        for disk in (*DISKS, RESIZED, UNPLUGGED):
            with (work / f"{disk.serial}.disk").open("wb") as file:
                file.truncate(disk.size_bytes)
        tpm_socket = work / "tpm.socket"
        with _start_tpm(work, tpm_socket), hostile_host(work):
            seconds = _count_qemu(name, tools, work, tpm_socket)
        console = (work / "console").read_bytes()[-_CONSOLE_TAIL_BYTES:]
        return BootResult(
            reports=_read_reports(work / "reports"),
            console=console.decode(errors="replace"),
            seconds=seconds,
        )


def _start_tpm(work: Path, control_socket: Path) -> OwnedProcess:
    """Make a TPM with an attestation key, as a platform provides one, and start it."""
    tools = Tools(tree=TOOLS.absolute())
    tpm = manufacture_tpm(tools, work / "tpm")
    return tpm.start(tools, control_socket=control_socket, log=work / "tpm.log")


def qemu_arguments(work: Path, tpm_socket: Path) -> tuple[str, ...]:
    """Return QEMU's command line; paths are absolute and seen as they are inside the tools tree."""
    return (
        *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2"),
        *("-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display", "none"),
        *("-no-reboot", "-kernel", f"{work}/kernel", "-initrd", f"{work}/initrd"),
        *("-append", COMMAND_LINE, "-serial", f"file:{work}/console"),
        *("-device", "virtio-serial-pci", "-chardev", f"file,id=reports,path={work}/reports"),
        *("-device", "virtserialport,chardev=reports,name=ccinit.results"),
        *("-chardev", f"socket,id=tpm,path={tpm_socket.resolve()}"),
        *("-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"),
        *(
            argument
            for disk in DISKS
            for argument in (
                "-drive",
                f"if=none,id={disk.serial},file={work}/{disk.serial}.disk,{_drive_options(disk)}",
                "-device",
                f"virtio-blk-pci,drive={disk.serial},serial={disk.serial}",
            )
        ),
        *host_arguments(work),
    )


def _drive_options(disk: GuestDisk) -> str:
    return f"format=raw,cache=unsafe,read-only={'on' if disk.read_only else 'off'}"


def _count_qemu(name: str, tools: ToolsTree, work: Path, tpm_socket: Path) -> float:
    """Run QEMU to its end, and count that as a boot, whatever comes of it; return its seconds."""
    started = time.monotonic()
    became = ""
    try:
        _run_qemu(tools, work, tpm_socket)
    except RuntimeError as error:
        became = f": {error}".partition("\n")[0]
        raise
    finally:
        seconds = time.monotonic() - started
        record_boot(f"{name}{became}", seconds)
    return seconds


def _run_qemu(tools: ToolsTree, work: Path, tpm_socket: Path) -> None:
    command = tools.command(qemu_arguments(work, tpm_socket), directories=(work,))
    with (work / "qemu.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            status = process.wait(_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            # What the guest reported until now still counts; the rest is reported as missing.
            status = 0
        finally:
            process.kill()
            process.wait()
    if status:
        said = [path.read_bytes() for path in (work / "console", work / "reports") if path.exists()]
        raise failure_of(status, (work / "qemu.log").read_text(), b"".join(said))


def failure_of(status: int, log: str, said: bytes) -> RuntimeError:
    """Return what to raise for a QEMU that failed.

    Args:
        status: its exit status, negative: the signal that ended it.
        log: what QEMU has printed.
        said: by the guest, on whichever way.
    """
    assertion = _OWN_ASSERTION.search(log)
    if status == -signal.SIGABRT and assertion and not said:
        return QemuFailedError(f"ended by itself before the guest's first word: {assertion[0]}")
    return RuntimeError(f"QEMU ended with {status}: {log}")


def _read_reports(path: Path) -> dict[str, list[dict[str, object]]]:
    reports: dict[str, list[dict[str, object]]] = {}
    for line in path.read_bytes().splitlines():
        try:
            report = json.loads(line)
        except ValueError:
            break  # the guest died while it wrote
        reports.setdefault(report["nodeid"], []).append(report)
    return reports
