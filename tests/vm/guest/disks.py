"""What the disk tests share: disks by serial number, mkfs without a sandbox, kernel state."""

import os
import subprocess
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from ccinit.errors import ChildError, VerificationError
from ccinit.formats.pod.volume import ScratchProfile, ScratchVolume
from ccinit.kernel.block import BlockDevice, list_virtio_disks, read_direct, write_direct
from ccinit.kernel.dm import DmControl
from ccinit.kernel.event_loop import EventLoop
from ccinit.secret import Secret
from ccinit.unlock.filesystem import LOST_WRITE, FormatDevice
from ccinit.unlock.scratch import ScratchPlan, activate_scratch, plan_scratch
from ccinit.unlock.stack import DiskStack
from ccinit.unlock.volume import VolumeRequest, activate_volume

R = TypeVar("R")
RELEASED = bytes(range(128, 192))
"""What the Key Broker Service releases for a volume."""


def disk(serial: str) -> BlockDevice:
    """The disk that the harness attached under this serial number."""
    (found,) = (device for device in list_virtio_disks() if device.serial == serial)
    return found


def blank(device: BlockDevice) -> None:
    """Make the first mebibyte zero, as on a fresh disk."""
    write_direct(device.node, 0, bytes(1 << 20))


def copy_disk(source: BlockDevice, target: BlockDevice) -> None:
    """Copy the whole of `source` to the beginning of `target`."""
    for offset in range(0, source.size_bytes, 1 << 20):
        write_direct(target.node, offset, read_direct(source.node, offset, 1 << 20))


def run(main: Coroutine[object, None, R]) -> R:
    return EventLoop().run(main)


async def format_device(node: str, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(  # noqa: ASYNC221  # nothing else runs in a test's loop
        ("mkfs.ext4", *arguments), capture_output=True, check=False, env={"PATH": "/usr/sbin"}
    )
    if done.returncode:
        raise ChildError("test.mkfs", f"{node}: {done.stderr.decode()}")


def plan(device: BlockDevice, profile: ScratchProfile) -> ScratchPlan:
    volume = ScratchVolume(name="data", size_bytes=device.size_bytes, profile=profile)
    (planned,) = plan_scratch([(volume, device)])
    return planned


@contextmanager
def open_scratch(
    device: BlockDevice,
    target: Path,
    profile: ScratchProfile = ScratchProfile.AEAD_RAM,
    format_device: FormatDevice = format_device,
) -> Iterator[DiskStack]:
    """The scratch volume `data` on `device`, mounted at `target`."""
    with DmControl() as control:
        planned = plan(device, profile)
        stack = run(activate_scratch(control, planned, str(target), format_device))
        try:
            yield stack
        finally:
            stack.close()


@contextmanager
def open_volume(
    device: BlockDevice,
    target: Path,
    *,
    pod: str = "web",
    released: bytes = RELEASED,
    may_create: bool = False,
    former_bytes: tuple[int, ...] = (),
) -> Iterator[None]:
    """The persistent volume `data` of the pod on `device`, mounted at `target`."""
    request = VolumeRequest(
        pod=pod,
        name="data",
        disk=device,
        may_create=may_create,
        former_bytes=former_bytes,
    )
    with DmControl() as control:
        key = Secret(released)
        stack = run(activate_volume(control, request, key, str(target), format_device))
        try:
            yield
        finally:
            stack.close()


@contextmanager
def told_of_a_loss() -> Iterator[None]:
    """Expect of the volume that is closed in here to say that a write to it was lost."""
    with pytest.raises(VerificationError) as error:
        yield
    assert error.value.reason == LOST_WRITE
    assert "kernel.syncfs" in error.value.detail


async def refuse_to_format(node: str, arguments: tuple[str, ...]) -> None:
    raise ChildError("test.mkfs", node)


def dm_names() -> set[str]:
    """Names of all device-mapper devices."""
    return {path.read_text().strip() for path in Path("/sys/block").glob("dm-*/dm/name")}


def write_files(directory: Path, count: int, *, step: int = 1) -> None:
    """Write files `file-0`…, each of `step` with its number; without the cost of file objects."""
    for index in range(count):
        fd = os.open(f"{directory}/file-{index}", os.O_WRONLY | os.O_CREAT)
        if index % step == 0:
            os.write(fd, b"%d" % index)
        os.close(fd)


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def flip_bit(device: BlockDevice, offset: int) -> None:
    """Change one bit of the ciphertext, as the host can at any time."""
    block = bytearray(read_direct(device.node, offset, 4096))
    block[100] ^= 1
    write_direct(device.node, offset, bytes(block))


@contextmanager
def kernel_errors() -> Iterator[list[str]]:
    """Collect the kernel log lines of this block that speak of integrity or I/O errors."""
    found: list[str] = []
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.lseek(fd, 0, os.SEEK_END)
        yield found
        while True:
            try:
                line = os.read(fd, 8192).decode(errors="replace")
            except BlockingIOError:
                break
            if "INTEGRITY" in line or "I/O error" in line or "EXT4-fs error" in line:
                found.append(line)
    finally:
        os.close(fd)
