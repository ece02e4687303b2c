"""Files in memory, for interfaces that take a path or descriptor, not bytes (memfd_create(2))."""

import os

from ccinit.kernel.libc import kernel_error


def open_memory_file(name: str, content: bytes | bytearray) -> int:
    """Return a descriptor of a new file that holds `content`, positioned at its end.

    Args:
        name: what /proc/self/fd shows of it; no secret.
        content: all of it.

    Raises:
        KernelError: `kernel.memfd_create`, no free descriptor or memory; none stays open.
    """
    fd = -1
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise kernel_error(error, "memfd_create", name) from error
    return fd
