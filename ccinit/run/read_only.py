"""Files and directories of the guest as read-only mounts, from which containers get theirs.

`crun` makes a bind mount read-only by a second call, for which it finds the place in the
container's root again. Another container that was passed a descriptor of this root, through a
socket, can replace the place in between, and the mount stays writable. So `crun` is given a source
that is read-only as a mount: what it binds from there is, too.
"""

import os
from stat import S_ISDIR

from ccinit.errors import KernelError
from ccinit.kernel.libc import kernel_error, make_new_directory, open_path
from ccinit.kernel.mount import MountFlag, UmountFlag, mount, umount2

_READ_ONLY = (
    MountFlag.REMOUNT | MountFlag.BIND | MountFlag.RDONLY | MountFlag.NOSUID | MountFlag.NODEV
)


def mount_read_only(source: str, target: str) -> None:
    """Mount `source` at `target`, which is made: a file for a file, else a directory.

    Raises:
        KernelError: the kernel refused; nothing is mounted, but `target` may be there.
    """
    _make_mount_point(source, target)
    mount(source, target, "", MountFlag.BIND)
    try:
        mount("", target, "", _READ_ONLY)
    except KernelError:
        unmount(target)
        raise


def unmount(target: str) -> None:
    """Undo `mount_read_only`, but for the mount point."""
    umount2(target, UmountFlag.NOFOLLOW | UmountFlag.DETACH)


def remove_mount_point(path: str) -> None:
    """Remove an empty directory, or a file; a missing one is not an error.

    Raises:
        KernelError: `kernel.rmdir`.
    """
    try:
        try:
            os.rmdir(path)
        except NotADirectoryError:
            os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise kernel_error(error, "rmdir", path) from error


def _make_mount_point(source: str, target: str) -> None:
    try:
        is_directory = S_ISDIR(os.lstat(source).st_mode)
    except OSError as error:
        raise kernel_error(error, "stat", source) from error
    if is_directory:
        make_new_directory(target, 0o700)
    else:
        os.close(open_path(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
