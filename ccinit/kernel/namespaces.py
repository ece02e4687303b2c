"""Namespaces that this process makes for others: namespaces(7), unshare(2), setns(2).

A namespace lives while a process is in it or its file is bound somewhere. So this process enters a
new one for a moment, binds its file, and leaves it; other programs join it through that file.
"""

import enum
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import check, kernel_error, libc, open_path
from ccinit.kernel.mount import MountFlag, mount, unmount


class NamespaceKind(enum.IntEnum):
    """CLONE_NEW* of <linux/sched.h>."""

    IPC = 0x0800_0000
    PID = 0x2000_0000


_FILES = {NamespaceKind.IPC: "ipc", NamespaceKind.PID: "pid"}


@contextmanager
def new_namespace(kind: NamespaceKind) -> Iterator[None]:
    """Enter a new namespace for the block, and return to the old one after it.

    With kind PID, this process itself stays in its namespace: the first child that it starts within
    the block becomes the first process of the new one. So nothing else may be started in the block.

    Raises:
        KernelError: the kernel refused; if it refused the return, this process must not go on.
    """
    with Descriptor(open_path(namespace_file("self", kind), os.O_RDONLY)) as own:
        check(libc.unshare(int(kind)), "unshare", kind.name)
        try:
            yield
        finally:
            check(libc.setns(own, int(kind)), "setns", kind.name)


def namespace_file(pid: int | str, kind: NamespaceKind) -> str:
    """Return the path of the namespace that a process is in."""
    return f"/proc/{pid}/ns/{_FILES[kind]}"


def bind_namespace(source: str, target: str) -> None:
    """Keep the namespace of the file `source` alive by `target`, which is made.

    Raises:
        KernelError: the kernel refused; nothing is left behind.
    """
    os.close(open_path(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    try:
        mount(source, target, "", MountFlag.BIND)
    except BaseException:
        os.unlink(target)
        raise


def release_namespace(target: str) -> None:
    """Undo `bind_namespace`.

    Raises:
        KernelError: the kernel refused.
    """
    unmount(target)
    try:
        os.unlink(target)
    except OSError as error:
        raise kernel_error(error, "unlink", target) from error
