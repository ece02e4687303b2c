"""Mounts of the guest's own from which containers get theirs, where no container reaches them.

`crun` finds the source of a bind mount by its path, at each start, and follows links: a path in the
container's root would lead to any directory of the guest that a link there names. And it makes a
mount read-only by a second call, for which it finds the place in the root again: if that was
replaced in between, the mount stays writable. What it binds from a read-only mount is so at once.
"""

import os
from stat import S_ISDIR

from ccinit.errors import KernelError
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import kernel_error, make_new_directory, open_path
from ccinit.kernel.mount import MountFlag, detach, mount
from ccinit.kernel.openat2 import open_in_root

_READ_ONLY = (
    MountFlag.REMOUNT | MountFlag.BIND | MountFlag.RDONLY | MountFlag.NOSUID | MountFlag.NODEV
)


def mount_from_root(root: str, place: str, target: str) -> None:
    """Mount a directory of a container's root elsewhere.

    Args:
        root: the container's, mounted.
        place: in it, without symbolic links.
        target: where; made here.

    Raises:
        KernelError: the kernel refused; nothing is mounted, but `target` may be there.
    """
    flags = os.O_PATH | os.O_DIRECTORY
    with Descriptor(open_path(root, flags)) as root_fd:
        source = Descriptor(open_in_root(root_fd, place, flags, follow_links=False))
    with source as fd:
        make_new_directory(target, 0o700)
        mount(f"/proc/self/fd/{fd}", target, "", MountFlag.BIND)


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
        detach(target)
        raise


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
