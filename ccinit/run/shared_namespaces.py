"""What the containers of a pod share, if the manifest says so.

Scope: the IPC namespace with its /dev/shm, and the files through which crun joins namespaces. Left
to others: the first process of a shared PID namespace (`ccinit.agent.phases.pod_namespaces`), the
spec (`ccinit.run.spec`).

Objects in a shared IPC namespace outlive the container that made them, in the memory of the whole
pod, which a container that restarts again and again would fill. So segments, semaphores and
messages, for which the kernel's defaults are practically unlimited, are bounded here; the kernel
itself bounds POSIX queues (256).
"""

from typing import Final

from ccinit.kernel.mount import CONFINED, detach, mount
from ccinit.kernel.namespaces import (
    NamespaceKind,
    bind_namespace,
    namespace_file,
    new_namespace,
    release_namespace,
)
from ccinit.kernel.sysctl import write_sysctl
from ccinit.values import frozen

_PAGE: Final = 4096
_SEMAPHORES: Final = "32000 32000 500 1024"  # SEMMSL SEMMNS SEMOPM SEMMNI, proc(5); 64 bytes each
_FILE_BYTES: Final = 16 << 10  # as for a container's own /dev/shm; see `ccinit.run.spec`
_QUEUE_BYTES: Final = 1 << 20  # of 16 384 one-byte messages, the most that a queue holds
_MIN_QUEUES: Final = 16


@frozen
class SharedNamespaces:
    """Paths of what a container shares with others; empty if it has its own.

    Attributes:
        ipc: file of the IPC namespace.
        shm: mount point of its /dev/shm.
        process: file of the PID namespace.
    """

    ipc: str = ""
    shm: str = ""
    process: str = ""


def open_shared_ipc(ipc: str, shm: str, shm_bytes: int) -> None:
    """Make an IPC namespace, bind it to the file `ipc`, and mount its /dev/shm.

    Args:
        ipc: a path that does not exist yet.
        shm: an empty directory.
        shm_bytes: of /dev/shm, of all System V segments together, and of all message queues if
            they are not fewer than 16; whole pages.

    Raises:
        KernelError: the kernel refused; nothing is left behind.
    """
    with new_namespace(NamespaceKind.IPC):
        write_sysctl("kernel.shmall", str(shm_bytes // _PAGE))
        write_sysctl("kernel.sem", _SEMAPHORES)
        write_sysctl("kernel.msgmni", str(max(_MIN_QUEUES, shm_bytes // _QUEUE_BYTES)))
        bind_namespace(namespace_file("self", NamespaceKind.IPC), ipc)
    try:
        options = f"mode=1777,size={shm_bytes},nr_inodes={shm_bytes // _FILE_BYTES}"
        mount("shm", shm, "tmpfs", CONFINED, options)
    except BaseException:
        release_namespace(ipc)
        raise


def close_shared_ipc(ipc: str, shm: str) -> None:
    """Undo `open_shared_ipc`, once no container is left.

    Raises:
        KernelError: the kernel refused.
    """
    detach(shm)
    release_namespace(ipc)
