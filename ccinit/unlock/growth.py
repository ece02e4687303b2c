"""Growing a volume's file system after its disk has grown from a size that the owner names.

The host owns the disks, so a larger disk alone changes nothing. The manifest names the size that
the disk must have, and in `grown_from_bytes` earlier sizes; a file system of any other size is
refused. Only data that the owner's key authenticates counts here. The host can write dm-integrity's
superblock, so that only tells how to open the disk for a look.

Where blocks lie does not depend on the size of the disk: its alternating runs of tags and data
continue where they ended, after the last run has reached its full length.

The kernel grows ext4 while it is mounted, in transactions of its journal, so after a crash the file
system has its old size, the new one, or one in between at the end of a group. All of these open,
and the next boot continues. The kernel *reads* some blocks that were never written (Linux 6.12,
`fs/ext4/resize.c`), which are errors here: the last block of the new size, the descriptors of every
64th group, and, for their checksums, the bitmaps of uninitialised groups, which it puts at the
beginning of the first of up to 16 groups. So the first blocks of every new group and the last block
of each step are written beforehand, while the file system is not mounted.

While it grows, the kernel writes the new groups' inode tables, usually 2 MiB for each 128 MiB: only
because it is mounted `noinit_itable`, else it would leave them for later. PID 1 has to wait for
that, so growing takes place in steps, between which other tasks run.

Linux does not grow a file system in which it has found errors, as it does if the disk fails in the
middle of growing. Such a file system stays as it is, but opens, so that its data remain accessible.
"""

from collections.abc import Iterator
from contextlib import ExitStack

from ccinit.errors import VerificationError
from ccinit.formats.disk.ext4 import GROUP_BLOCKS, Ext4Superblock
from ccinit.formats.disk.integrity import BLOCK_BYTES
from ccinit.kernel.block import read_size_bytes, zero_direct
from ccinit.kernel.event_loop import sleep
from ccinit.kernel.ext4 import resize_ext4
from ccinit.kernel.mount import unmount
from ccinit.unlock.filesystem import mount_ext4, read_superblock
from ccinit.values import frozen

_HEAD_BLOCKS = 64
"""Bitmaps of 16 groups, two blocks each, after a superblock and descriptors."""

_STEP_BLOCKS = 16 * GROUP_BLOCKS

Extent = tuple[int, int]
"""Offset and length in bytes."""


@frozen
class Growth:
    """The growth to carry out.

    Attributes:
        old_blocks: of 4096 bytes; nothing beyond them is in use.
        new_blocks: of the device.
    """

    old_blocks: int
    new_blocks: int

    def steps(self) -> Iterator[int]:
        """Yield the sizes to grow to in turn: whole groups, except for the last."""
        first = self.old_blocks // _STEP_BLOCKS * _STEP_BLOCKS + _STEP_BLOCKS
        yield from range(first, self.new_blocks, _STEP_BLOCKS)
        yield self.new_blocks

    def unwritten(self) -> Iterator[tuple[Extent, ...]]:
        """Yield the extents that the kernel will read before writing them, for each step."""
        start = self.old_blocks
        for end in self.steps():
            first_group = -(-start // GROUP_BLOCKS) * GROUP_BLOCKS
            heads = [
                (group * BLOCK_BYTES, min(_HEAD_BLOCKS, end - group) * BLOCK_BYTES)
                for group in range(first_group, end, GROUP_BLOCKS)
            ]
            yield *heads, ((end - 1) * BLOCK_BYTES, BLOCK_BYTES)
            start = end


def plan_growth(
    name: str, found: Ext4Superblock, device_blocks: int, former_blocks: tuple[int, ...]
) -> Growth | None:
    """Return how a volume's file system grows; None if it fills its device or has errors.

    A remainder of the device that is too small for a group of its own stays unused, both in a new
    file system and in a grown one.

    Args:
        name: of the volume.
        found: its superblock.
        device_blocks: of its device.
        former_blocks: of the devices that the earlier disks had.

    Raises:
        VerificationError: `volume.size`, it is neither as large as its device or an earlier one,
            nor of a size in between that an interrupted growth leaves; `volume.growth`, the version
            that made it did not support growing.
    """
    count = found.block_count
    if count == device_blocks:
        return None
    fills_groups = count == _whole_groups(device_blocks)
    if fills_groups and not (former_blocks and found.can_grow):
        return None
    if not (count in former_blocks or _is_between(count, device_blocks, former_blocks)):
        raise VerificationError(
            "volume.size",
            f"{name}'s file system has {count} blocks on {device_blocks},"
            f" and earlier sizes are {former_blocks}",
        )
    if found.has_errors:
        return None
    verify_can_grow(name, found)
    return Growth(old_blocks=count, new_blocks=device_blocks)


def _is_between(count: int, device_blocks: int, former_blocks: tuple[int, ...]) -> bool:
    smallest = min(former_blocks, default=device_blocks)
    return _whole_groups(smallest) <= count < device_blocks and count % GROUP_BLOCKS == 0


def _whole_groups(blocks: int) -> int:
    return blocks - blocks % GROUP_BLOCKS


def verify_can_grow(name: str, found: Ext4Superblock) -> None:
    """Accept a file system that Linux can grow.

    Raises:
        VerificationError: `volume.growth`.
    """
    if found.has_errors:
        raise VerificationError("volume.growth", f"the kernel has found errors in {name}")
    if not found.can_grow:
        raise VerificationError("volume.growth", f"{name} was made without room to grow")


async def mount_volume(name: str, node: str, target: str, former_blocks: tuple[int, ...]) -> None:
    """Mount a volume's file system, and grow it to the size of its device if the manifest says so.

    Args:
        name: of the volume.
        node: its device, whose content is authenticated.
        target: an existing directory.
        former_blocks: of the devices that the earlier disks had.

    Raises:
        VerificationError: as for `plan_growth`; nothing has changed.
        FormatError: `ext4.superblock`.
        KernelError: the kernel refused; the file system opens, in its old size or a larger one.
    """
    with ExitStack() as undo:
        mount_ext4(node, target)
        undo.callback(unmount, target)
        device_blocks = read_size_bytes(node) // BLOCK_BYTES
        growth = plan_growth(name, read_superblock(node), device_blocks, former_blocks)
        if growth is not None:
            undo.close()
            for extents in growth.unwritten():
                zero_direct(node, extents)
                await sleep(0)
            mount_ext4(node, target)
            undo.callback(unmount, target)
            for blocks in growth.steps():
                resize_ext4(target, blocks)
                await sleep(0)
        undo.pop_all()
