"""What PID 1 mounts first, as a table, and the mounting of it.

/proc, /sys and /dev come from stage 0. Every mount is nosuid,noexec, and nodev but for /dev/pts;
/run is the exception to noexec, because crun runs containers from bundles below it.

PID 1 moves itself and each child into a cgroup. `favordynmods` lets that happen at once: without it
every move waits for a grace period of RCU, some 15 ms however fast the machine is. The price is a
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
        of_a_driver: there is no mount point, and no mount, where its driver is not loaded.
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
    # Reports of SEV-SNP and TDX are asked for there: stage 0 loads it where one of them is.
    MountSpec(fstype="configfs", target="/sys/kernel/config", of_a_driver=True),
    MountSpec(fstype="securityfs", target="/sys/kernel/security"),
)  # fmt: skip


def mount_all(specs: tuple[MountSpec, ...] = PSEUDO_FILESYSTEMS) -> None:
    """Mount each in order, making mount points in /dev where devtmpfs has none.

    Raises:
        KernelError: the kernel refused one.
    """
    for spec in specs:
        if spec.of_a_driver and not os.path.isdir(spec.target):
            continue
        make_directory(spec.target, 0o755)
        mount(spec.fstype, spec.target, spec.fstype, spec.flags, spec.data)
