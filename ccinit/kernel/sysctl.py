"""Write kernel settings below /proc/sys; the table of them is `boot`'s."""

import errno
import os

from ccinit.errors import KernelError
from ccinit.kernel.libc import kernel_error

ROOT = "/proc/sys"


def write_sysctl(name: str, value: str, root: str = ROOT) -> None:
    """Write one setting, named with dots (`kernel.sysrq`); `*` is each of what is there.

    Raises:
        KernelError: no such setting, or the kernel refused the value.
    """
    for path in _paths(f"{root}/{name.replace('.', '/')}", name):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                # One write: the kernel takes a setting by the call, not by the line. An empty value
                # needs its newline, for zero bytes would set nothing.
                os.write(fd, f"{value}\n".encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise kernel_error(error, "sysctl", name) from error


def _paths(path: str, name: str) -> tuple[str, ...]:
    """Return the files that are meant: one, or one in each directory that `*` stands for."""
    above, star, below = path.partition("/*/")
    if not star:
        return (path,)
    try:
        found = tuple(f"{above}/{one}/{below}" for one in sorted(os.listdir(above)))
    except OSError as error:
        raise kernel_error(error, "sysctl", name) from error
    if not found:
        raise KernelError(errno.ENOENT, "sysctl", name)
    return found
