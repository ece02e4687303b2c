"""What PID 1 mounts first: one table, and the code that mounts it.

/proc, /sys and /dev come from stage 0. Every mount is nosuid, and nodev except for /dev/pts, and
noexec except for /run, because crun runs containers from bundles below it.

PID 1 moves itself and each child into a cgroup. `favordynmods` makes that immediate: without it,
every move waits for an RCU grace period, some 15 ms however fast the machine is. The price is a
lock that every fork and exit then takes.
"""

import os

from ccinit.boot.directories import make_directory
from ccinit.kernel.mount import CONFINED, MountFlag, mount
from ccinit.values import frozen


@frozen
class MountSpec:
    """One mount: the arguments of mount(2).

    Attributes:
        of_a_driver: depends on a driver; without that there is no mount point, and no mount.
    """

    fstype: str
    target: str
    flags: MountFlag = CONFINED
    data: str = ""
    of_a_driver: bool = False


PSEUDO_FILESYSTEMS = (
    MountSpec(fstype="tmpfs", target="/run", flags=MountFlag.NOSUID | MountFlag.NODEV,
              data="mode=0755,size=10%"),
    MountSpec(fstype="tmpfs", target="/tmp", data="mode=0700,size=5%"),  # noqa: S108  # the guest's own
    MountSpec(fstype="devpts", target="/dev/pts", flags=MountFlag.NOSUID | MountFlag.NOEXEC,
              data="gid=5,mode=620,ptmxmode=000"),
    MountSpec(fstype="tmpfs", target="/dev/shm", data="mode=0700,size=1m"),  # noqa: S108
    MountSpec(fstype="cgroup2", target="/sys/fs/cgroup",
              data="nsdelegate,memory_recursiveprot,favordynmods"),
    # SEV-SNP and TDX reports are requested there: stage 0 loads the driver on these platforms.
    MountSpec(fstype="configfs", target="/sys/kernel/config", of_a_driver=True),
    MountSpec(fstype="securityfs", target="/sys/kernel/security"),
)  # fmt: skip


def mount_all(specs: tuple[MountSpec, ...] = PSEUDO_FILESYSTEMS) -> None:
    """Mount each in order, making mount points in /dev that devtmpfs lacks.

    Raises:
        KernelError: the kernel refused one.
    """
    for spec in specs:
        if spec.of_a_driver and not os.path.isdir(spec.target):
            continue
        make_directory(spec.target, 0o755)
        mount(spec.fstype, spec.target, spec.fstype, spec.flags, spec.data)
