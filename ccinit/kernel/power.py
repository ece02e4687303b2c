"""sync(2) and reboot(2). When and why the machine ends is `init`'s."""

import os

from ccinit.kernel.libc import check, libc

RB_AUTOBOOT = 0x01234567
RB_DISABLE_CAD = 0


def sync() -> None:
    """Write all dirty pages; returns when they are written, or never if a device hangs."""
    os.sync()


def reboot() -> None:
    """Reset the machine at once; returns only by an error.

    Raises:
        KernelError: not allowed to.
    """
    check(libc.reboot(RB_AUTOBOOT), "reboot", "RB_AUTOBOOT")


def disable_ctrl_alt_del() -> None:
    """Turn Ctrl-Alt-Del from a reset by the kernel into a SIGINT for PID 1."""
    check(libc.reboot(RB_DISABLE_CAD), "reboot", "RB_DISABLE_CAD")
