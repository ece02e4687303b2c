"""A container's root: read-only image layers with a writable one on scratch above.

Scope: the mount and the directories it needs, first as data, then carried out; and a look at the
image before anything is mounted into it (R72). Left to others: mounting the layers (`ccinit.pull`),
the mounts inside (`crun`, by `ccinit.run.spec`).

The overlay is mounted nodev and nosuid, but crun 1.21 loses both flags where it makes the mount the
container's, read-only or not. So neither is what protects: device nodes of an image are refused by
the device list of the container's cgroup, and no container may gain privileges; nor are a file's
capabilities ignored: who lacks them cannot execute it. The overlay is writable also under a
container whose root is read-only, because `crun` makes missing mount points in it.
"""

import errno
import os
from stat import S_ISDIR
from typing import Final

from ccinit.errors import ConfigError, FormatError, KernelError, LimitExceededError
from ccinit.formats.pod.places import KERNEL_PLACES
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.mount import UmountFlag, umount2
from ccinit.kernel.openat2 import open_in_root
from ccinit.kernel.overlay import MAX_VALUE_BYTES, mount_overlay
from ccinit.values import frozen

# kernel defaults differ by build; these switch off what lets a layer point outside itself
_FIXED_OPTIONS: Final = (
    ("redirect_dir", "nofollow"),
    ("metacopy", "off"),
    ("index", "off"),
    ("xino", "off"),
)


@frozen
class MakeDirectory:
    """Make one directory; it must not exist."""

    path: str
    mode: int

    def execute(self) -> None:
        """Do it."""
        try:
            os.mkdir(self.path, self.mode)
            os.chmod(self.path, self.mode)  # whatever the umask is
        except OSError as error:
            raise kernel_error(error, "mkdir", self.path) from error


@frozen
class MountOverlay:
    """Mount the overlay."""

    target: str
    lowers: tuple[str, ...]
    options: tuple[tuple[str, str], ...]

    def execute(self) -> None:
        """Do it."""
        mount_overlay(self.target, self.lowers, self.options)


RootStep = MakeDirectory | MountOverlay


def plan_rootfs(lowers: tuple[str, ...], scratch: str, target: str) -> tuple[RootStep, ...]:
    """Return the steps that make a root file system.

    Args:
        lowers: mounted layers, top first.
        scratch: a directory of this container alone; made here.
        target: where the root appears; made here.

    Raises:
        ConfigError: `run.rootfs`: no layer, one twice, or a path that overlayfs would misread.
        LimitExceededError: `run.rootfs`: a path that is longer than the kernel takes.
    """
    upper, work = f"{scratch}/upper", f"{scratch}/work"
    if not lowers or len(set(lowers)) != len(lowers):
        raise ConfigError("run.rootfs", f"{len(lowers)} layers, one of them none or twice")
    for path in (*lowers, upper):
        if any(character in path for character in ":,\\\0"):
            raise ConfigError("run.rootfs", f"{path!r} has a character with a meaning")
        if len(os.fsencode(path)) > MAX_VALUE_BYTES:
            raise LimitExceededError("run.rootfs", f"{path[:80]!r} is too long a path")
    return (
        MakeDirectory(path=scratch, mode=0o700),
        MakeDirectory(path=upper, mode=0o755),
        MakeDirectory(path=work, mode=0o700),
        MakeDirectory(path=target, mode=0o700),
        MountOverlay(
            target=target,
            lowers=lowers,
            options=(("upperdir", upper), ("workdir", work), *_FIXED_OPTIONS),
        ),
    )


def activate_rootfs(steps: tuple[RootStep, ...]) -> None:
    """Carry out a plan; nothing stays mounted if a step fails, because mounting is the last."""
    for step in steps:
        step.execute()


def deactivate_rootfs(target: str) -> None:
    """Unmount a root; what its container wrote goes with the scratch volume."""
    umount2(target, UmountFlag.NOFOLLOW | UmountFlag.DETACH)


def check_mount_points(root_fd: int) -> None:
    """Refuse an image in which /proc, /sys or /dev is anything but a directory (R72).

    Raises:
        FormatError: `run.mount_point`.
        KernelError: the kernel refused for another reason than that.
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
