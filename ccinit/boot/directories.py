"""The guest's own directories below /run; PID 1's umask hides everything that is not said here."""

import os

from ccinit.kernel.libc import kernel_error

RUN = "/run/ccinit"


def make_directory(path: str, mode: int) -> str:
    """Make a directory that is not there yet, with exactly `mode`; return its path.

    Raises:
        KernelError: `kernel.mkdir`.
    """
    try:
        if not os.path.isdir(path):
            os.mkdir(path, 0o700)
            os.chmod(path, mode)
    except OSError as error:
        raise kernel_error(error, "mkdir", path) from error
    return path
