"""Scratch: a disk of this boot only, encrypted under a key that is made and wiped here.

The key never leaves the kernel and this process, and never comes from outside: anybody who could
inject one could read the disk. Earlier content of the disk does not matter; it is never read.

The manifest, which is measured, chooses how blocks are protected (`ScratchProfile`):

    aead-ram    tags in guest memory (a `brd` device): the host's disk holds nothing but ciphertext,
                and an old block that the host puts back is refused. The price is memory, 8 MiB for
                each GiB written, which the owner caps by a budget
                (`ccinit.formats.pod.scratch_tags`).
    aead-disk   tags on the disk, for scratch that is too large for that. An old block that the host
                puts back with its old tag goes unnoticed. The host can write the superblock: so it
                is zeroed and read back, and what the kernel makes of it is compared with constants.
    crypt       no tags.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import assert_never

from ccinit.errors import ConfigError, VerificationError
from ccinit.formats.disk.integrity import SUPERBLOCK_BYTES, count_meta_bytes
from ccinit.formats.pod.scratch_tags import RAM_DEVICES
from ccinit.formats.pod.volume import ScratchProfile, ScratchVolume
from ccinit.kernel.block import BlockDevice, read_direct, write_direct
from ccinit.kernel.dm import DmControl
from ccinit.kernel.entropy import random_bytes
from ccinit.kernel.mount import unmount
from ccinit.secret import Secret
from ccinit.unlock.disk import check_disk
from ccinit.unlock.filesystem import FormatDevice, create_ext4, mount_ext4
from ccinit.unlock.integrity import (
    IntegrityLayout,
    MetaDevice,
    plan_disk_layout,
    plan_memory_layout,
)
from ccinit.unlock.profile import AEAD, CRYPT
from ccinit.unlock.stack import DiskStack, activate_crypt, activate_stack
from ccinit.values import frozen

_RAM_MAJOR = 1


@frozen
class ScratchPlan:
    """One scratch disk, before anything is touched.

    Attributes:
        layout: where its tags are; None if it has none.
    """

    volume: ScratchVolume
    disk: BlockDevice
    layout: IntegrityLayout | None

    @property
    def meta_bytes(self) -> int:
        """The most memory that its tags can take."""
        in_memory = self.layout is not None and self.layout.meta_device is not None
        return count_meta_bytes(self.disk.size_bytes) if in_memory else 0


def plan_scratch(disks: Iterable[tuple[ScratchVolume, BlockDevice]]) -> tuple[ScratchPlan, ...]:
    """Plan all scratch disks of the pod together.

    Args:
        disks: in any order; each with tags in memory gets a memory device of its own, of which the
            manifest's parser has found enough.

    Raises:
        ConfigError: `disk.size`, too small for its tags.
    """
    ram_indexes = iter(range(RAM_DEVICES))
    return tuple(_plan_one(volume, disk, ram_indexes) for volume, disk in disks)


def verify_memory(plans: Sequence[ScratchPlan], available_bytes: int) -> None:
    """Accept plans that leave half of the memory to the pod even once every block is written.

    The host decides how much memory the guest has. brd allocates a page when a tag is written; if
    there is none, the kernel waits, and kills the pod to free one.

    Raises:
        ConfigError: `scratch.memory`.
    """
    needed = sum(plan.meta_bytes for plan in plans)
    if needed > available_bytes // 2:
        raise ConfigError(
            "scratch.memory", f"tags take up to {needed} bytes of {available_bytes} that are free"
        )


def _plan_one(volume: ScratchVolume, disk: BlockDevice, ram_indexes: Iterator[int]) -> ScratchPlan:
    size = disk.size_bytes
    layout: IntegrityLayout | None
    match volume.profile:
        case ScratchProfile.AEAD_RAM:
            index = next(ram_indexes)
            ram = MetaDevice(node=f"/dev/ram{index}", number=f"{_RAM_MAJOR}:{index}")
            layout = plan_memory_layout(size, ram)
        case ScratchProfile.AEAD_DISK:
            layout = plan_disk_layout(size, journal_bytes=0)
        case ScratchProfile.CRYPT:
            layout = None
        case _:
            assert_never(volume.profile)
    return ScratchPlan(volume=volume, disk=disk, layout=layout)


async def activate_scratch(
    control: DmControl, plan: ScratchPlan, target: str, format_device: FormatDevice
) -> DiskStack:
    """Activate the disk and mount a fresh file system; `close` of the result undoes all of it.

    Args:
        control: device-mapper, open until the result is closed.
        plan: one of `plan_scratch`.
        target: an existing directory to mount it at.
        format_device: runs mkfs.ext4 on the given device.

    Raises:
        KernelError: the kernel refused a step; everything before it is undone.
        ChildError: mkfs failed; likewise.
        ConfigError: `disk.read_only`, `disk.size`.
        VerificationError: `disk.changed`, `scratch.superblock`, or `integrity.…` of the active
            device.
    """
    check_disk(plan.volume.name, plan.disk)
    with ExitStack() as undo:
        stack = _activate(control, plan)
        undo.callback(stack.close)
        has_tags = plan.layout is not None
        await create_ext4(stack.node, format_device, journal=False, tables=has_tags)
        mount_ext4(stack.node, target)
        stack.push(lambda: unmount(target))
        undo.pop_all()
    return stack


def _activate(control: DmControl, plan: ScratchPlan) -> DiskStack:
    if plan.layout is None:
        with Secret(random_bytes(CRYPT.key_bytes)) as key:
            return activate_crypt(control, plan.volume.name, plan.disk, key)
    _clear_superblock((plan.layout.meta_device or plan.disk).node)
    with Secret(random_bytes(AEAD.key_bytes)) as key:
        return activate_stack(control, plan.volume.name, plan.disk, plan.layout, key)


def _clear_superblock(node: str) -> None:
    """Zero the superblock, so that the kernel formats the disk instead of reading it.

    The host may change the zeros, and the kernel would then use what it finds. Reading back catches
    only a careless host; `verify_active` catches one that changes them just in time.
    """
    write_direct(node, 0, bytes(SUPERBLOCK_BYTES))
    if any(read_direct(node, 0, SUPERBLOCK_BYTES)):
        raise VerificationError("scratch.superblock", "the disk does not keep what is written")
