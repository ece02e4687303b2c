"""The guest's own directories below /run, and the files in them that everyone may read.

PID 1's umask hides everything else.
"""

import os

from ccinit.kernel.libc import kernel_error, make_new_directory

RUN = "/run/ccinit"


def make_directory(path: str, mode: int) -> str:
    """Make a directory if it does not exist, with exactly `mode`; return its path.

    Raises:
        KernelError: `kernel.mkdir`.
    """
    if not os.path.isdir(path):
        make_new_directory(path, mode)
    return path


def write_file(path: str, text: str) -> None:
    """Write a small ASCII file that everyone in the guest may read: a container's /etc/hosts.

    Raises:
        KernelError: `kernel.write`.
    """
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path, 0o644)
    except OSError as error:
        raise kernel_error(error, "write", path) from error
