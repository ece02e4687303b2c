"""Small files: writing a kernel setting with one call, and reading a file up to a cap."""

import os

from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import kernel_error


def write_setting(path: str, value: bytes, operation: str, target: str = "") -> None:
    """Write a file of proc, sysfs or cgroup2, where one write(2) sets one value.

    Args:
        path: has to exist.
        value: not empty: that would set nothing.
        operation: for the error's reason.
        target: for its detail; the path if empty.

    Raises:
        KernelError: `kernel.<operation>`, no such file, or the kernel refused the value.
    """
    try:
        with Descriptor(os.open(path, os.O_WRONLY | os.O_CLOEXEC)) as fd:
            os.write(fd, value)
    except OSError as error:
        raise kernel_error(error, operation, target or path) from error


def read_to_end(fd: int, max_bytes: int, operation: str, target: str) -> bytes:
    """Return a file's content from its position to its end, or the first `max_bytes` + 1 bytes.

    Raises:
        KernelError: `kernel.<operation>`.
    """
    data = bytearray()
    try:
        while piece := os.read(fd, max_bytes + 1 - len(data)):
            data += piece
    except OSError as error:
        raise kernel_error(error, operation, target) from error
    return bytes(data)
