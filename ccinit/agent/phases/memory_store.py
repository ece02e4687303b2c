"""The store of images and writable layers in a pod without a scratch disk: one bounded tmpfs.

Its size is measured configuration (`limits.memory_store_bytes`). Images come first and need most
while they are pulled (`ccinit.pull.erofs.compress`); containers can write into the rest. The store
is never swapped. The kernel charges files to the writer's cgroup, so children that write here get
the store's size on top of their own limit.
"""

import errno
import os
from functools import partial

from ccinit.agent.figures import read_memory
from ccinit.agent.guest import Guest
from ccinit.boot.directories import make_directory
from ccinit.errors import ConfigError, KernelError
from ccinit.kernel.event_loop import sleep
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.mount import MountFlag, mount, unmount

PATH = "/run/ccinit/store"
INODE_BYTES = 16 * 1024
"""One inode for this many bytes, as on ext4: even an empty file takes memory."""

_TRIES, _PAUSE_SECONDS = 50, 0.1
_FLAGS = MountFlag.NODEV | MountFlag.NOSUID


def open_memory_store(guest: Guest, size_bytes: int, path: str = PATH) -> str:
    """Mount the tmpfs and return its path.

    Raises:
        ConfigError: `store.memory`.
        KernelError: the kernel refused.
    """
    verify_store(size_bytes, read_memory()["MemAvailable"])
    make_directory(path, 0o711)
    mount("tmpfs", path, "tmpfs", _FLAGS, mount_options(size_bytes))
    guest.teardown.push("store in memory", partial(close_memory_store, path))
    guest.children.store_bytes = size_bytes
    return path


async def close_memory_store(path: str) -> None:
    """Unmount the tmpfs, waiting for loop devices, which release its files with a short delay.

    Raises:
        KernelError: the kernel refused; EBUSY only after retries.
    """
    for _ in range(_TRIES):
        try:
            unmount(path)
        except KernelError as error:
            if error.errno != errno.EBUSY:
                raise
            await sleep(_PAUSE_SECONDS)
        else:
            return
    unmount(path)


def verify_store(size_bytes: int, available_bytes: int) -> None:
    """Accept a store that even when full leaves half of the memory to the pod.

    The host decides how much memory the guest has.

    Raises:
        ConfigError: `store.memory`.
    """
    if size_bytes > available_bytes // 2:
        raise ConfigError(
            "store.memory",
            f"images may take {size_bytes} bytes, and {available_bytes} are free: at most half",
        )


def mount_options(size_bytes: int) -> str:
    """Return the options of the tmpfs (tmpfs(5))."""
    return f"mode=0711,size={size_bytes},nr_inodes={size_bytes // INODE_BYTES},noswap"


def count_used(path: str) -> tuple[int, int]:
    """Return how many bytes of the store are used, and how many are free."""
    try:
        status = os.statvfs(path)
    except OSError as error:
        raise kernel_error(error, "statvfs", path) from error
    return (status.f_blocks - status.f_bfree) * status.f_frsize, status.f_bfree * status.f_frsize
