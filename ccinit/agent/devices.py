"""PID 1's hand on the platform: what a child needs to make evidence, as open files.

A child of the roles `evidence` and `measure` gets descriptors by name, never a path; what they are
on each platform is `ccinit.attest.detect`'s table, what is done with them is in the jobs.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from ccinit.attest.detect import Platform
from ccinit.kernel.libc import kernel_error


@contextmanager
def open_platform(platform: Platform) -> Iterator[Mapping[str, int]]:
    """Hold the platform's files open for a child; yields their descriptors by name.

    Raises:
        KernelError: `kernel.open`.
    """
    with ExitStack() as stack:
        yield {
            node.name: stack.enter_context(
                open_device(node.path, os.O_RDWR if node.writable else os.O_RDONLY)
            )
            for node in platform.nodes
        }


@contextmanager
def open_device(node: str, flags: int) -> Iterator[int]:
    """Hold a device node open for a child; yields the descriptor.

    Raises:
        KernelError: `kernel.open`.
    """
    try:
        fd = os.open(node, flags | os.O_CLOEXEC)
    except OSError as error:
        raise kernel_error(error, "open", node) from error
    try:
        yield fd
    finally:
        os.close(fd)
