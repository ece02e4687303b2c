"""Mount an overlay whose layers are named one by one (fsconfig(2), `lowerdir+`, Linux 6.7).

mount(2) takes all options in one page, which 128 layers do not fit into. The mount can be seen only
after the last call, which attaches it.
"""

import os
from collections.abc import Sequence
from typing import Final

from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import syscall

NR_MOVE_MOUNT: Final = 429
NR_FSOPEN: Final = 430
NR_FSCONFIG: Final = 431
NR_FSMOUNT: Final = 432
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_SET_STRING: Final = 1
_CREATE: Final = 6
_MOVE_FROM_FD: Final = 4  # MOVE_MOUNT_F_EMPTY_PATH
_AT_FDCWD: Final = -100
_NOSUID: Final = 2  # MOUNT_ATTR_NOSUID
_NODEV: Final = 4  # MOUNT_ATTR_NODEV

MAX_VALUE_BYTES: Final = 255
"""Longest value of an option."""


def mount_overlay(target: str, lowers: Sequence[str], options: Sequence[tuple[str, str]]) -> None:
    """Mount at `target`, nodev and nosuid.

    Args:
        target: an existing directory.
        lowers: directories, top first; the kernel takes at most 500.
        options: further options (upperdir, workdir, …), each with its value.

    Raises:
        KernelError: the kernel refused; nothing is mounted.
    """
    context = syscall(NR_FSOPEN, b"overlay", _FSOPEN_CLOEXEC, operation="fsopen", target="overlay")
    with Descriptor(context):
        for name, value in (*(("lowerdir+", lower) for lower in lowers), *options):
            _configure(context, _SET_STRING, name.encode(), os.fsencode(value), target)
        _configure(context, _CREATE, None, None, target)
        attributes = _NOSUID | _NODEV
        mounted = syscall(
            NR_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes, operation="fsmount", target=target
        )
    with Descriptor(mounted):
        path = os.fsencode(target)
        syscall(
            *(NR_MOVE_MOUNT, mounted, b"", _AT_FDCWD, path, _MOVE_FROM_FD),
            operation="move_mount",
            target=target,
        )


def _configure(
    context: int, command: int, name: bytes | None, value: bytes | None, target: str
) -> None:
    operation = "fsconfig"
    syscall(NR_FSCONFIG, context, command, name, value, 0, operation=operation, target=target)
