"""Write kernel settings below /proc/sys; the table of them is `boot`'s."""

import os

from ccinit.kernel.libc import kernel_error

ROOT = "/proc/sys"


def write_sysctl(name: str, value: str, root: str = ROOT) -> None:
    """Write one setting, named with dots (`kernel.sysrq`).

    Raises:
        KernelError: no such setting, or the kernel refused the value.
    """
    path = f"{root}/{name.replace('.', '/')}"
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
