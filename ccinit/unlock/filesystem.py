"""ext4 on a device whose blocks cannot be read before they are written.

Reading a block without a valid tag is an error, so nothing may be read that was not written before:
no resize inode, no discard (which would also show the host what is free). mke2fs modifies parts of
the first 64 KiB, and of each block with a backup superblock, through the page cache, so these are
zeroed first. Scratch has no backups. A volume has them, because Linux grows no file system without
them (`ccinit.unlock.growth`), and its group descriptors lie with their groups (`meta_bg`), so that
there is room for those of new groups.

Inode tables are written at once. Left for later, hardly a block of them would be read: whoever
takes the first inode of a block fills it. But if two processes take inodes of one block at the same
time, each finds the other's in use, and reads the block (`__ext4_get_inode_loc`); that error ends
the file system. So that a large disk is ready soon, the number of its inodes has a limit. Without
tags any block can be read, and what is read so does no harm, because Linux clears an inode when it
takes it (`ext4_do_update_inode`): there the tables are left as they are.

Inode table read-ahead is off, for volumes made before that: Linux may read one block beyond those
in use whenever these are full (`fs/ext4/inode.c`, `__ext4_get_inode_loc`, `b <= end`; 6.12 and
7.3), and a good disk would be reported as faulty.

`mkfs.ext4` runs in a child of its own, which `agent` starts and limits.
"""

from collections.abc import Awaitable, Callable

from ccinit.errors import KernelError, VerificationError
from ccinit.formats.disk.ext4 import GROUP_BLOCKS, Ext4Superblock, parse_ext4_superblock
from ccinit.formats.disk.integrity import BLOCK_BYTES
from ccinit.kernel.block import read_direct, read_size_bytes, write_direct, zero_direct
from ccinit.kernel.mount import MountFlag, mount, sync_file_system, unmount

FormatDevice = Callable[[str, tuple[str, ...]], Awaitable[None]]
"""Runs mkfs.ext4 in a child, given the device that it may write, and arguments, which name it, too.

Raises `ChildError` unless it ends with 0.
"""

LOST_WRITE = "volume.lost_write"
START_BYTES = 64 * 1024
_JOURNAL_MIB = 16

_BYTES_PER_INODE = 16384  # of mke2fs for all but small file systems, which have more inodes
_SCRATCH_INODES = 1 << 20  # 256 MiB of tables, made at each boot; the default up to 16 GiB
_VOLUME_INODES = 1 << 24  # 4 GiB of tables, made once; the default up to 256 GiB

_COMMON = ("-F", "-q", "-t", "ext4", "-b", str(BLOCK_BYTES), "-m", "0")
_MOUNT_FLAGS = MountFlag.NODEV | MountFlag.NOSUID
_MOUNT_OPTIONS = "noinit_itable,inode_readahead_blks=0,errors=remount-ro"


def plan_mkfs(node: str, size_bytes: int, *, journal: bool, tables: bool = True) -> tuple[str, ...]:
    """Return the arguments of mkfs.ext4.

    Args:
        node: the device.
        size_bytes: of the device.
        journal: for volumes that outlive the boot; scratch need not survive a crash.
        tables: write the inode tables; not needed where blocks can be read before that.
    """
    extended = f"nodiscard,lazy_itable_init={0 if tables else 1}"
    if journal:
        features: tuple[str, ...] = (
            "-O",
            "^resize_inode,meta_bg",
            "-J",
            f"size={_JOURNAL_MIB}",
        )
        extended += ",lazy_journal_init=0"
    else:
        features = ("-O", "^has_journal,^resize_inode,sparse_super2")
        extended += ",num_backup_sb=0"
    most = _VOLUME_INODES if journal else _SCRATCH_INODES
    inodes = ("-N", str(most)) if size_bytes // _BYTES_PER_INODE > most else ()
    return (*_COMMON, *inodes, *features, "-E", extended, node)


async def create_ext4(
    node: str, format_device: FormatDevice, *, journal: bool, tables: bool = True
) -> None:
    """Make a file system on a device to which nothing was written yet; arguments as `plan_mkfs`.

    Raises:
        KernelError: the first bytes could not be written.
        ChildError: mkfs failed.
    """
    write_direct(node, 0, bytes(START_BYTES))
    size_bytes = read_size_bytes(node)
    if journal:
        blocks = find_backups(size_bytes // BLOCK_BYTES)
        zero_direct(node, [(block * BLOCK_BYTES, BLOCK_BYTES) for block in blocks])
    await format_device(node, plan_mkfs(node, size_bytes, journal=journal, tables=tables))


def find_backups(block_count: int) -> tuple[int, ...]:
    """Return the blocks that hold backups of a file system's superblock (`sparse_super`).

    These are the first blocks of group 1 and of groups whose numbers are powers of 3, 5 and 7.
    """
    groups = {1}
    for base in (3, 5, 7):
        power = base
        while power * GROUP_BLOCKS < block_count:
            groups.add(power)
            power *= base
    return tuple(
        group * GROUP_BLOCKS for group in sorted(groups) if group * GROUP_BLOCKS < block_count
    )


def read_superblock(node: str) -> Ext4Superblock:
    """Read a device's superblock; its size is current only after a mount.

    Mounting replays the journal, and waits until that is written.

    Raises:
        KernelError: the device cannot be read.
        FormatError: `ext4.superblock`.
    """
    return parse_ext4_superblock(read_direct(node, 0, BLOCK_BYTES))


def mount_ext4(node: str, target: str) -> None:
    """Mount the file system with lazy initialisation and inode read-ahead off.

    Raises:
        KernelError: the kernel refused.
    """
    mount(node, target, "ext4", _MOUNT_FLAGS, _MOUNT_OPTIONS)


def unmount_kept(target: str) -> None:
    """Unmount a file system that outlives this boot, and report if a write to it was ever lost.

    Unmounting alone succeeds even if the disk no longer accepts writes.

    Raises:
        VerificationError: `LOST_WRITE`; it is unmounted.
        KernelError: the kernel refused to unmount it.
    """
    try:
        sync_file_system(target)
    except KernelError as error:
        raise VerificationError(LOST_WRITE, str(error)) from error
    finally:
        unmount(target)
