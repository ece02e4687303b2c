"""Waits, from another process, for the end of a container, and learns its exit status.

It waits for the lock of the container's life, which the kernel releases when that process ends. The
status is in a file that is opened beforehand, so it can be read even if the container is removed at
once.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ccinit.errors import ConfigError
from host_runtime.oci_runtime.container import END, END_BYTES, LIFE, Container
from host_runtime.oci_runtime.exit_status import KILLED


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEnd:
    """What tells that a container has ended, and with which status: open descriptors of both."""

    life: int
    end: int

    def wait(self) -> int:
        """Wait for it; return the exit status, or 137 if the life could not leave one."""
        fcntl.flock(self.life, fcntl.LOCK_SH)  # shared, as observers do, unlike a life
        return int(os.pread(self.end, END_BYTES, 0).strip() or KILLED)


@contextmanager
def container_end(container: Container) -> Iterator[ContainerEnd]:
    """Yield the end of a container that is alive.

    Raises:
        ConfigError: `sandbox.state`: it is not alive any more.
    """
    try:
        end = os.open(container.folder / END, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _is_over(container) from None
    try:
        life = os.open(container.folder / LIFE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not container.is_alive():
                raise _is_over(container)
            yield ContainerEnd(life=life, end=end)
        finally:
            os.close(life)
    finally:
        os.close(end)


def _is_over(container: Container) -> ConfigError:
    return ConfigError("sandbox.state", f"the guest of {container.folder.name} has ended")
