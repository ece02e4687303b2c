"""Puts this thread into a network namespace: the engine's, or a new and empty one.

QEMU's user network connects from the namespace that QEMU runs in; so in the engine's, the engine's
rules for the container apply to the guest. `setns(2)`, `unshare(2)`; in Python from 3.12 on.
"""

import ctypes
import os
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from host_runtime.oci_runtime.opened_file import open_regular

_CLONE_NEWNET: Final = 0x40000000
_OWN: Final = Path("/proc/thread-self/ns/net")

_libc = ctypes.CDLL(None, use_errno=True)


def enter_network_namespace(path: str | None) -> bool:
    """Enter the namespace at `path`, or a new one if it is ""; None changes nothing.

    Returns whether this thread has changed its namespace: `path` may name the one that it is in,
    since Docker names the host's own.

    Raises:
        ConfigError: `bundle.network`.
    """
    before = _OWN.readlink()
    if path:
        _enter(path)
    elif path is not None:
        _check(_libc.unshare(_CLONE_NEWNET), "a new network namespace")
    return _OWN.readlink() != before


def _enter(path: str) -> None:
    try:
        descriptor = open_regular(Path(path), "bundle.network")  # as files of nsfs are
    except OSError as error:
        raise ConfigError("bundle.network", f"{path}: {error.strerror}") from error
    try:
        _check(_libc.setns(descriptor, _CLONE_NEWNET), path)
    finally:
        os.close(descriptor)


def _check(result: int, what: str) -> None:
    if result < 0:
        raise ConfigError("bundle.network", f"{what}: {os.strerror(ctypes.get_errno())}")
