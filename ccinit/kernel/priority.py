"""The part of the processor that this process gets while others want it, too; sched(7)."""

import os

from ccinit.kernel.libc import kernel_error

FOREMOST = -20  # eighty times the share of an ordinary process
ORDINARY = 0


def set_priority(nice: int) -> None:
    """Set the nice value of this process; what it executes and starts from now on inherits it.

    Args:
        nice: -20, the largest share, to 19.

    Raises:
        KernelError: a smaller value than now, without the right to.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError as error:
        raise kernel_error(error, "setpriority", f"nice {nice}") from error
