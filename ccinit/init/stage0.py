"""PID 1 of the initrd: from the measured command line to the verified root.

Runs once, from a file system of a few megabytes that it deletes behind itself. The measured line
and the initrd decide everything: which modules to load (`/modules/order`, and
`/modules/order.PLATFORM` if that platform is present), which line to expect (`/ccinit.cmdline`),
and where the root is (the line's `ccinit.` words). Everything after the switch of roots (file
systems, limits, configuration) is left to the root's PID 1, `ccinit.init.main`.

Every failure ends in the same silent reset: there is no owner's key yet to seal a report with.
Imports are few because each costs time in every boot.
"""

import os
import stat
from collections.abc import Sequence
from typing import Never

from ccinit.errors import CcinitError, VerificationError
from ccinit.formats.cmdline import RootLocation, parse_root_location, verify_cmdline
from ccinit.formats.disk.verity import (
    BLOCK_BYTES,
    VerityParameters,
    encode_table,
    verify_root_block,
)
from ccinit.init.module_order import load_modules, parse_module_order
from ccinit.init.silence import silence
from ccinit.kernel.block import SECTOR_BYTES, BlockDevice, list_virtio_disks, read_direct
from ccinit.kernel.clock import boottime_us
from ccinit.kernel.dm import DmControl, DmTarget
from ccinit.kernel.grace_period import expedite_grace_periods
from ccinit.kernel.loop import open_loop
from ccinit.kernel.mount import CONFINED, MountFlag, mount, switch_root
from ccinit.kernel.power import reset
from ccinit.kernel.sysctl import write_sysctl

CPUINFO = "/proc/cpuinfo"
EXPECTED_LINE = "/ccinit.cmdline"
MODULES = "/modules"
MODULE_ORDER = f"{MODULES}/order"
ROOT_IMAGE = "/root.erofs"
NEW_ROOT = "/root"
ROOT_DEVICE_NAME = "ccinit.root"
"""No volume's device can have it: `ccinit.unlock.device_name`."""

PLATFORM_DRIVERS = ("sev-guest", "tdx-guest")
SEV_GUEST_DEVICE = "/sys/devices/platform/sev-guest"
LOADERS = max(2, os.cpu_count() or 2)  # two even on one processor: one path for all

# PID 1 has this command line, path and variable in modules of its own; a test compares them.
PYTHON = "/usr/bin/python3.13"
PID1 = (PYTHON, "-I", "-S", "-B", "/usr/lib/ccinit")
PID1_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin"}
"""Not the one that the kernel passes: it includes unknown words of the command line."""
EXECUTED_VARIABLE = "CCINIT_EXECUTED_US"  # from which PID 1 tells how long it took to answer


def main() -> Never:
    """Be PID 1 until the root's PID 1 replaces this program; never returns."""
    try:
        silence()
        enter_root(prepare_kernel())
    finally:
        # Also on KeyboardInterrupt and SystemExit: if PID 1 exits, the kernel panics, and any text
        # of that would show the host the difference.
        reset()


def prepare_kernel() -> RootLocation:
    """Check the command line, then load the listed modules and disable module loading.

    Raises:
        CcinitError: the line is not the expected one, or the kernel refused something.
    """
    mount("proc", "/proc", "proc", CONFINED)
    line = verify_cmdline(_read("/proc/cmdline"), _read(EXPECTED_LINE))
    location = parse_root_location(line)
    mount("sysfs", "/sys", "sysfs", CONFINED)
    mount("devtmpfs", "/dev", "devtmpfs", MountFlag.NOSUID | MountFlag.NOEXEC, "mode=0755")
    expedite_grace_periods(on=True)  # until LISTEN, like our priority: nothing else runs yet
    # No usermode helper: not even the kernel loads a module that the list does not name.
    write_sysctl("kernel.modprobe", "")
    platforms = (f"{MODULE_ORDER}.{driver}" for driver in PLATFORM_DRIVERS if has_platform(driver))
    for order in (MODULE_ORDER, *platforms):
        load_modules(parse_module_order(_read(order)), MODULES, LOADERS)
    write_sysctl("kernel.modules_disabled", "1")
    return location


def has_platform(driver: str) -> bool:
    """Whether the kernel shows the platform that one of `PLATFORM_DRIVERS` is for.

    The drivers look for the same signs and refuse without them, but only after the kernel has
    verified the signatures of the drivers and of their dependencies, and then waited for two grace
    periods to unload them.
    """
    if driver == "sev-guest":
        return os.path.exists(SEV_GUEST_DEVICE)
    return b"tdx_guest" in _read(CPUINFO).split()


def enter_root(location: RootLocation) -> Never:
    """Mount the root, delete the initramfs, and execute the root's PID 1.

    Raises:
        CcinitError: the root is absent or not the expected one, or the kernel refused something.
        OSError: the switch itself failed.
    """
    os.makedirs(NEW_ROOT, 0o755, exist_ok=True)
    if location.verity is not None:
        _mount_root(activate_root(location.verity))
    else:
        with open_loop(ROOT_IMAGE) as loop:
            _mount_root(loop.node)
    for directory in ("/proc", "/sys", "/dev"):
        mount(directory, NEW_ROOT + directory, "", MountFlag.MOVE)
    delete_tree("/")
    switch_root(NEW_ROOT)
    os.execve(PYTHON, PID1, {**PID1_ENVIRONMENT, EXECUTED_VARIABLE: str(boottime_us())})


def _mount_root(node: str) -> None:
    mount(node, NEW_ROOT, "erofs", MountFlag.RDONLY | MountFlag.NODEV | MountFlag.NOSUID)


def activate_root(parameters: VerityParameters) -> str:
    """Find the disk that verifies and return the node of the dm-verity device over it.

    Raises:
        VerificationError: `root.missing` or `root.ambiguous`.
        KernelError: device-mapper refused the table.
    """
    disk = select_root_disk(list_virtio_disks(), parameters)
    target = DmTarget(
        length_sectors=parameters.data_bytes // SECTOR_BYTES,
        kind="verity",
        parameters=encode_table(parameters, disk.node),
    )
    with DmControl() as control:
        device = control.create(ROOT_DEVICE_NAME)
        control.load(device, (target,), read_only=True)
        control.resume(device, read_only=True)
    return device.node


def select_root_disk(disks: Sequence[BlockDevice], parameters: VerityParameters) -> BlockDevice:
    """Return the one disk whose hash tree begins with the block that the root hash names.

    Disks are recognised by content, never by name or order. Two that match are refused: the second
    would have no role, and the guest accepts no disk without one.

    Raises:
        VerificationError: `root.missing` or `root.ambiguous`.
    """
    matches = [disk for disk in disks if is_root_disk(disk, parameters)]
    if not matches:
        raise VerificationError("root.missing", f"none of {len(disks)} disks verifies")
    if len(matches) > 1:
        raise VerificationError("root.ambiguous", f"{len(matches)} disks verify")
    return matches[0]


def is_root_disk(disk: BlockDevice, parameters: VerityParameters) -> bool:
    """Whether the disk's hash tree begins as it must; an unreadable disk's does not."""
    if disk.size_bytes < parameters.device_bytes:
        return False
    try:
        verify_root_block(parameters, read_direct(disk.node, parameters.data_bytes, BLOCK_BYTES))
    except CcinitError:
        return False
    return True


def delete_tree(directory: str) -> None:
    """Delete what is below `directory`, staying on its file system.

    An initramfs gives its memory back only when its files are deleted.
    """
    _delete_below(directory, os.lstat(directory).st_dev)


def _delete_below(directory: str, device: int) -> None:
    for name in os.listdir(directory):
        path = f"{directory.rstrip('/')}/{name}"
        status = os.lstat(path)
        if status.st_dev != device:
            continue
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(path)
            continue
        _delete_below(path, device)
        os.rmdir(path)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
