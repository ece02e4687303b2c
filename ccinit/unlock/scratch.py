"""Scratch: a disk of this boot only, encrypted under a key that is born here and dies here.

The key never leaves the kernel and this process, and never comes from outside: whoever could inject
one could read the disk. Tags are kept in guest memory (a `brd` device), so the host's disk holds
nothing but ciphertext and a block that the host puts back from earlier is refused. What was on the
disk before does not matter; it is never read.

The price is memory, 8 MiB for each GiB written, which the owner caps by a budget.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ccinit.errors import ConfigError, VerificationError
from ccinit.kernel.block import BlockDevice, read_size_bytes, write_direct
from ccinit.kernel.dm import DmControl
from ccinit.kernel.entropy import random_bytes
from ccinit.secret import Secret
from ccinit.unlock.filesystem import FormatDevice, create_ext4, mount_ext4, unmount
from ccinit.unlock.integrity import (
    SUPERBLOCK_BYTES,
    IntegrityLayout,
    count_meta_bytes,
    plan_memory_layout,
)
from ccinit.unlock.profile import AEAD, check_size
from ccinit.unlock.stack import DiskStack, activate_stack

RAM_DEVICES = 4
"""As many as stage 0 lets brd make (`rd_nr=4`); one for each scratch disk."""

RAM_DEVICE_BYTES = 16 << 30
_RAM_MAJOR = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchPlan:
    """One scratch disk, before anything is touched.

    Attributes:
        name: of the volume in the manifest.
        target: an existing directory to mount it at.
        meta_bytes: the most memory its tags can take.
    """

    name: str
    disk: BlockDevice
    target: str
    layout: IntegrityLayout
    meta_bytes: int

    @property
    def meta_node(self) -> str:
        """The memory device of its tags."""
        return self.layout.meta_node


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchRequest:
    """What the manifest and the disk roles say about one scratch disk."""

    name: str
    disk: BlockDevice
    target: str


def plan_scratch(
    requests: Sequence[ScratchRequest], *, budget_bytes: int
) -> tuple[ScratchPlan, ...]:
    """Plan all scratch disks of the pod together.

    Args:
        requests: in any order; each gets a memory device of its own.
        budget_bytes: the most guest memory that all their tags may take.

    Raises:
        ConfigError: `scratch.count`, `scratch.budget`, `disk.size`, `disk.read_only`.
    """
    if len(requests) > RAM_DEVICES:
        raise ConfigError("scratch.count", f"{len(requests)} disks, at most {RAM_DEVICES}")
    plans = tuple(_plan_one(index, request) for index, request in enumerate(requests))
    needed = sum(plan.meta_bytes for plan in plans)
    largest = max((plan.meta_bytes for plan in plans), default=0)
    if needed > budget_bytes or largest > RAM_DEVICE_BYTES:
        raise ConfigError("scratch.budget", f"tags take up to {needed} bytes of {budget_bytes}")
    return plans


def _plan_one(index: int, request: ScratchRequest) -> ScratchPlan:
    size = check_size(request.disk.size_bytes)
    if request.disk.read_only:
        raise ConfigError("disk.read_only", f"{request.name} cannot be written")
    return ScratchPlan(
        name=request.name,
        disk=request.disk,
        target=request.target,
        layout=plan_memory_layout(size, f"/dev/ram{index}", f"{_RAM_MAJOR}:{index}"),
        meta_bytes=count_meta_bytes(size),
    )


async def activate_scratch(
    control: DmControl, plan: ScratchPlan, format_device: FormatDevice
) -> DiskStack:
    """Make the disk and mount its fresh file system; `close` of the result takes all of it down.

    Args:
        control: device-mapper, open until the result is closed.
        plan: one of `plan_scratch`.
        format_device: runs mkfs.ext4 on the given device.

    Raises:
        KernelError: the kernel refused a step; everything before it is undone.
        ChildError: mkfs failed; likewise.
        VerificationError: `disk.changed`, or `integrity.…` of the active device.
    """
    if read_size_bytes(plan.disk.node) != plan.disk.size_bytes:
        raise VerificationError("disk.changed", f"{plan.name} has another size than it had")
    # All zero is what makes the kernel format instead of reading.
    write_direct(plan.meta_node, 0, bytes(SUPERBLOCK_BYTES))
    with ExitStack() as undo:
        with Secret(random_bytes(AEAD.key_bytes)) as key:
            stack = activate_stack(control, plan.name, plan.disk, plan.layout, key)
        undo.callback(stack.close)
        await create_ext4(stack.node, format_device, journal=False)
        mount_ext4(stack.node, plan.target)
        stack.push(lambda: unmount(plan.target))
        undo.pop_all()
        return stack
    raise RuntimeError("an exit stack swallowed an exception")
