"""sync(2) and reboot(2). `init` decides when and why the machine ends."""

import os

from ccinit.annotations import Never
from ccinit.errors import KernelError
from ccinit.kernel.libc import check, libc

RB_AUTOBOOT = 0x01234567
RB_DISABLE_CAD = 0


def sync() -> None:
    """Write all dirty pages; return once they are written, which is never if a device hangs."""
    os.sync()


def reset() -> Never:
    """Request a reset until it happens; any other ending would look different to the host."""
    while True:
        try:
            reboot()
        except KernelError:
            continue


def reboot() -> None:
    """Reset the machine at once; returns only with an error.

    Raises:
        KernelError: not allowed to.
    """
    check(libc.reboot(RB_AUTOBOOT), "reboot", "RB_AUTOBOOT")


def disable_ctrl_alt_del() -> None:
    """Have Ctrl-Alt-Del send a SIGINT to PID 1 instead of resetting the machine."""
    check(libc.reboot(RB_DISABLE_CAD), "reboot", "RB_DISABLE_CAD")
