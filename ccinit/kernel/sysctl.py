"""Write kernel settings below /proc/sys; `boot` has the table of them."""

import errno
import os

from ccinit.errors import KernelError
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.small_files import write_setting

ROOT = "/proc/sys"


def write_sysctl(name: str, value: str, root: str = ROOT) -> None:
    """Write one setting, named with dots (`kernel.sysrq`); `*` stands for every directory there.

    Raises:
        KernelError: no such setting, or the kernel refused the value.
    """
    for path in _paths(f"{root}/{name.replace('.', '/')}", name):
        write_setting(path, f"{value}\n".encode(), "sysctl", name)


def _paths(path: str, name: str) -> tuple[str, ...]:
    """Return the setting's files: one, or one in each directory that `*` stands for."""
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
