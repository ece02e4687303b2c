"""Read-only volumes: erofs on a disk whose blocks a root hash in the manifest authenticates.

Nothing is encrypted, and no dm-verity superblock is read: hash, salt and size are measured
configuration. Reading a block that the host has changed fails with EIO.
"""

from contextlib import ExitStack

from ccinit.errors import VerificationError
from ccinit.formats.disk.verity import (
    BLOCK_BYTES,
    VerityParameters,
    encode_table,
    verify_root_block,
)
from ccinit.kernel.block import SECTOR_BYTES, BlockDevice, read_direct
from ccinit.kernel.claimed_device import wait_until_unclaimed
from ccinit.kernel.dm import DmControl, DmTarget
from ccinit.kernel.mount import MountFlag, mount, unmount
from ccinit.unlock.device_name import name_device
from ccinit.unlock.stack import DiskStack

_MOUNT_FLAGS = MountFlag.RDONLY | MountFlag.NODEV | MountFlag.NOSUID


def select_verity_disk(
    name: str, disks: tuple[BlockDevice, ...], parameters: VerityParameters
) -> BlockDevice:
    """Return the first disk whose hash tree has the root; if there are several, any will do.

    Raises:
        VerificationError: `verity.root`, none has it.
        KernelError: a disk cannot be read.
    """
    for disk in disks:
        block = read_direct(disk.node, parameters.data_bytes, BLOCK_BYTES)
        try:
            verify_root_block(parameters, block)
        except VerificationError:
            continue
        return disk
    raise VerificationError("verity.root", f"no disk has the hash tree of {name}")


def activate_verity(
    control: DmControl, name: str, disk: BlockDevice, parameters: VerityParameters, target: str
) -> DiskStack:
    """Open a verity volume and mount it read-only at `target`; `close` of the result undoes it.

    Raises:
        KernelError: the kernel refused a step; everything before it is undone.
    """
    table = DmTarget(
        length_sectors=parameters.data_bytes // SECTOR_BYTES,
        kind="verity",
        parameters=encode_table(parameters, disk.node, ()),
    )
    with ExitStack() as undo:
        device = control.create(name_device(name))
        undo.callback(control.remove, device)
        undo.callback(wait_until_unclaimed, device.node)
        control.load(device, (table,), read_only=True)
        control.resume(device, read_only=True)
        mount(device.node, target, "erofs", _MOUNT_FLAGS)
        undo.callback(unmount, target)
        kept = undo.pop_all()
    return DiskStack(node=device.node, undo=kept)
