"""ext4 on a device whose blocks cannot be read before they were written.

A block without a valid tag reads as an error, so nothing may read what it has not written: no
backup superblocks (mke2fs wipes around each), no resize inode, inode tables left to be initialised
when used, no discard (it would show the host what is free). The first 64 KiB are written as zeros
before, because mke2fs changes parts of them through the page cache.

`mkfs.ext4` runs in a child of its own; starting it, with which rights, is `agent`'s.
"""

from collections.abc import Awaitable, Callable

from ccinit.kernel.block import write_direct
from ccinit.kernel.mount import MountFlag, UmountFlag, mount, umount2
from ccinit.unlock.profile import BLOCK_BYTES

FormatDevice = Callable[[str, tuple[str, ...]], Awaitable[None]]
"""Runs mkfs.ext4 in a child: the device that it may write, its arguments (which name the device
too). Raises `ChildError` if it did not end with 0."""

START_BYTES = 64 * 1024
_JOURNAL_MIB = 16

_COMMON = ("-F", "-q", "-t", "ext4", "-b", str(BLOCK_BYTES), "-m", "0")
_EXTENDED = "nodiscard,lazy_itable_init=1,num_backup_sb=0"
_MOUNT_FLAGS = MountFlag.NODEV | MountFlag.NOSUID
_MOUNT_OPTIONS = "noinit_itable,errors=remount-ro"


def plan_mkfs(node: str, *, journal: bool) -> tuple[str, ...]:
    """Return the arguments of mkfs.ext4.

    Args:
        node: the device.
        journal: for volumes that outlive the boot; scratch does not need to survive a crash.
    """
    if journal:
        features: tuple[str, ...] = (
            "-O",
            "^resize_inode,sparse_super2",
            "-J",
            f"size={_JOURNAL_MIB}",
        )
        extended = f"{_EXTENDED},lazy_journal_init=0"
    else:
        features = ("-O", "^has_journal,^resize_inode,sparse_super2")
        extended = _EXTENDED
    return (*_COMMON, *features, "-E", extended, node)


async def create_ext4(node: str, format_device: FormatDevice, *, journal: bool) -> None:
    """Make a file system on a device that nothing was written to yet.

    Raises:
        KernelError: the first bytes could not be written.
        ChildError: mkfs failed.
    """
    write_direct(node, 0, bytes(START_BYTES))
    await format_device(node, plan_mkfs(node, journal=journal))


def mount_ext4(node: str, target: str) -> None:
    """Mount the file system; its lazy initialisation thread stays off.

    Raises:
        KernelError: the kernel refused.
    """
    mount(node, target, "ext4", _MOUNT_FLAGS, _MOUNT_OPTIONS)


def unmount(target: str) -> None:
    """Unmount; EBUSY while anything uses it.

    Raises:
        KernelError: the kernel refused.
    """
    umount2(target, UmountFlag.NOFOLLOW)
