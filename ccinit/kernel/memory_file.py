"""Files in memory, for interfaces that take a path or descriptor, not bytes (memfd_create(2))."""

import os

from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import kernel_error


def open_memory_file(name: str, content: bytes | bytearray) -> int:
    """Return a descriptor of a new file that holds `content`, positioned at its end.

    Args:
        name: what /proc/self/fd shows of it; no secret.
        content: all of it.

    Raises:
        KernelError: `kernel.memfd_create`, no free descriptor or memory; none stays open.
    """
    try:
        memory = Descriptor(os.memfd_create(name, os.MFD_CLOEXEC))
        with memory as fd:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(fd, rest) :]
            return memory.take()
    except OSError as error:
        raise kernel_error(error, "memfd_create", name) from error
