"""The first act of both PID 1s: leave no descriptor and no hook that could write anywhere.

The kernel starts PID 1 with descriptors 0 to 2 closed. A file opened later would get one of these
numbers and, as standard error, receive whatever the interpreter prints, fatal errors included.
"""

import os
import sys


def silence() -> None:
    """Point descriptors 0 to 2 at /dev/null and disable the hooks that print.

    Raises:
        OSError: there is no /dev/null.
    """
    sys.excepthook = lambda *_: None
    sys.unraisablehook = lambda *_: None
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        if fd != null:
            os.dup2(null, fd)
    if null > 2:
        os.close(null)
    else:
        os.set_inheritable(null, True)  # noqa: FBT003  # positional only
