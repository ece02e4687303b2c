"""Nice values: the share of the processor that a process gets while others want it; sched(7)."""

import os

from ccinit.kernel.libc import kernel_error

HIGHEST = -20  # eighty times the share of an ordinary process
NORMAL = 0
LOWEST = 19  # a seventieth of it


def set_priority(nice: int, pid: int = 0) -> None:
    """Set a nice value; what the process executes or starts afterwards inherits it.

    Args:
        nice: -20, the largest share, to 19.
        pid: of a process with one thread, which the caller owns; 0 is the caller.

    Raises:
        KernelError: the value is smaller than before, and the caller lacks the right.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    except OSError as error:
        raise kernel_error(error, "setpriority", f"nice {nice}") from error
