"""Limits of this process, and which processes the kernel kills first when memory runs out."""

import errno
import resource

from ccinit.errors import KernelError
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.small_files import write_setting

OOM_SCORE_ADJ_MIN = -1000


def set_limit(kind: int, value: int) -> None:
    """Set the soft and the hard limit of `kind` (RLIMIT_*) to `value`.

    Raises:
        KernelError: the hard limit was lower already.
    """
    try:
        resource.setrlimit(kind, (value, value))
    except ValueError as error:  # so says Python if the kernel says EPERM
        raise KernelError(errno.EPERM, "setrlimit", f"limit {kind}") from error
    except OSError as error:
        raise kernel_error(error, "setrlimit", f"limit {kind}") from error


def write_oom_score(score: int) -> None:
    """Set this process's `oom_score_adj`: -1000 is never killed, 1000 first, 0 in the usual turn.

    Raises:
        KernelError: the score was higher, and the caller lacks the right.
    """
    write_setting("/proc/self/oom_score_adj", f"{score}".encode(), "oom_score_adj")
