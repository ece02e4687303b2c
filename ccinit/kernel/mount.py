"""The mount calls; `boot` and `run` decide what to mount where.

File systems are mounted by the old call: it takes every option that is needed here (erofs
`device=`, say) in one string of at most a page, and one call leaves nothing half made. An overlay
may have more layers than fit: `ccinit.kernel.overlay`.
"""

import enum
import os

from ccinit.errors import KernelError
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import check, kernel_error, libc, open_path

OPTIONS_LIMIT_BYTES = 4095  # copy_mount_options() reads one page; a longer string is cut silently


class MountFlag(enum.IntFlag):
    """MS_* of <linux/mount.h>, those that are used here."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    REMOUNT = 32
    NOATIME = 1024
    BIND = 4096
    MOVE = 8192


NO_FLAGS = MountFlag(0)
CONFINED = MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8


def mount(
    source: str, target: str, file_system: str, flags: MountFlag = NO_FLAGS, options: str = ""
) -> None:
    """Mount, bind, move or remount `source` at `target`.

    Raises:
        KernelError: the kernel refused.
    """
    data = options.encode()
    if len(data) > OPTIONS_LIMIT_BYTES:
        raise RuntimeError(f"mount options of {len(data)} bytes")
    check(
        libc.mount(
            os.fsencode(source), os.fsencode(target), file_system.encode(), int(flags), data or None
        ),
        "mount",
        target,
    )


def unmount(target: str) -> None:
    """Unmount `target`, which is no symbolic link.

    Raises:
        KernelError: `kernel.umount2`; EBUSY: something uses it.
    """
    check(libc.umount2(os.fsencode(target), _UMOUNT_NOFOLLOW), "umount2", target)


def detach(target: str) -> None:
    """Take `target` out of the tree at once; it is unmounted when its last user is gone.

    Raises:
        KernelError: `kernel.umount2`.
    """
    check(libc.umount2(os.fsencode(target), _UMOUNT_NOFOLLOW | _MNT_DETACH), "umount2", target)


def sync_file_system(path: str) -> None:
    """Write and flush all dirty data of the file system that has `path`; report any loss.

    The kernel remembers a failed write until this call has reported it, so even one that was never
    synced is reported, however long ago it was.

    Raises:
        KernelError: `kernel.syncfs`: something was lost; `kernel.open`.
    """
    with Descriptor(open_path(path, os.O_RDONLY | os.O_DIRECTORY)) as fd:
        check(libc.syncfs(fd), "syncfs", path)


def switch_root(new_root: str) -> None:
    """Move the mount at `new_root` over the initramfs and enter it.

    pivot_root(2) does not work on an initramfs, so the new root is moved on top of it. The caller
    has emptied the old root and holds none of its directories open.

    Raises:
        KernelError: the kernel refused; the working directory may have changed.
    """
    try:
        os.chdir(new_root)
        mount(".", "/", "", MountFlag.MOVE)
        os.chroot(".")
        os.chdir("/")
    except KernelError:
        raise
    except OSError as error:
        raise kernel_error(error, "switch_root", new_root) from error
