"""A container's root: read-only image layers below a writable one on scratch.

Scope: the mount and the directories it needs, and a check of the image before anything is mounted
into it (R72). Left to others: mounting the layers (`ccinit.pull`), the mounts inside (`crun`, by
`ccinit.run.spec`).

The overlay is mounted nodev and nosuid, but crun 1.21 loses both flags when it makes the mount the
container's root, read-only or not. So the protection lies elsewhere: the container's cgroup denies
devices, and no container may gain privileges. Nor are file capabilities ignored: a process that
lacks them cannot execute such a file. The overlay is writable even if the container's root is
read-only, because `crun` makes missing mount points in it.
"""

import errno
import os
from stat import S_IMODE, S_ISDIR
from typing import Final

from ccinit.errors import ConfigError, FormatError, KernelError, LimitExceededError
from ccinit.formats.pod.places import KERNEL_PLACES
from ccinit.kernel.inode_flags import make_immutable
from ccinit.kernel.libc import kernel_error, make_new_directory
from ccinit.kernel.openat2 import open_in_root
from ccinit.kernel.overlay import MAX_VALUE_BYTES, mount_overlay

# kernel defaults differ by build; these disable features by which a layer could point outside
# itself
_FIXED_OPTIONS: Final = (
    ("redirect_dir", "nofollow"),
    ("metacopy", "off"),
    ("index", "off"),
    ("xino", "off"),
)


def activate_rootfs(lowers: tuple[str, ...], scratch: str, target: str) -> None:
    """Make a root file system: its directories, then the mount.

    Args:
        lowers: mounted layers, top first.
        scratch: a directory for this container alone; made here.
        target: where to mount the root; made here.

    Raises:
        ConfigError: `run.rootfs`: no layer, one twice, or a path that overlayfs would misread.
        LimitExceededError: `run.rootfs`: a path longer than the kernel accepts.
        KernelError: the kernel refused; nothing is mounted, because mounting is the last step.
    """
    upper, work = f"{scratch}/upper", f"{scratch}/work"
    if not lowers or len(set(lowers)) != len(lowers):
        raise ConfigError("run.rootfs", f"{len(lowers)} layers, one of them none or twice")
    for path in (*lowers, upper):
        if any(character in path for character in ":,\\\0"):
            raise ConfigError("run.rootfs", f"{path!r} has a character with a meaning")
        if len(os.fsencode(path)) > MAX_VALUE_BYTES:
            raise LimitExceededError("run.rootfs", f"{path[:80]!r} is too long a path")
    for path, mode in ((scratch, 0o700), (upper, 0o755), (work, 0o700), (target, 0o700)):
        make_new_directory(path, mode)
    mount_overlay(target, lowers, (("upperdir", upper), ("workdir", work), *_FIXED_OPTIONS))


def check_mount_points(root_fd: int) -> None:
    """Refuse an image in which /proc, /sys or /dev is anything but a directory (R72).

    Raises:
        FormatError: `run.mount_point`.
        KernelError: the kernel refused for another reason.
    """
    for place in KERNEL_PLACES:
        try:
            fd = open_in_root(root_fd, place, os.O_PATH, follow_links=False)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                continue
            if error.errno == errno.ELOOP:
                raise FormatError("run.mount_point", f"{place} is not a directory") from error
            raise
        try:
            if not S_ISDIR(os.fstat(fd).st_mode):
                raise FormatError("run.mount_point", f"{place} is not a directory")
        except OSError as error:
            raise kernel_error(error, "stat", place) from error
        finally:
            os.close(fd)


def hold_mount_points(root_fd: int) -> None:
    """Make /proc, /sys and /dev if they are missing, and let no program move or replace them.

    `crun` mounts a file system there, and then finds what it masks or makes read-only in it by path
    again. Another container that was passed a descriptor of this root, through a socket, could have
    moved it meanwhile: nothing would be masked in it, and nothing read-only.

    Args:
        root_fd: of a container's mounted root, as `check_mount_points` has passed it.

    Raises:
        KernelError: the kernel refused.
    """
    for place in KERNEL_PLACES:
        try:
            os.mkdir(place.lstrip("/"), 0o755, dir_fd=root_fd)
        except FileExistsError:
            pass
        except OSError as error:  # the disk may be full
            raise kernel_error(error, "mkdir", place) from error
        fd = open_in_root(root_fd, place, os.O_RDONLY | os.O_DIRECTORY, follow_links=False)
        try:
            # A change, even to the same mode, brings it from its layer, which may be of another
            # file system with other flags, to the writable one.
            os.fchmod(fd, S_IMODE(os.fstat(fd).st_mode))
            make_immutable(fd, place)
        except OSError as error:
            raise kernel_error(error, "chmod", place) from error
        finally:
            os.close(fd)
