"""Landlock: which files, TCP ports and processes this process can reach from now on.

Interface: Documentation/userspace-api/landlock.rst. All rights of ABI 6 are handled, so what no
rule grants is refused. An older kernel is an error, never a weaker sandbox. Open descriptors stay
usable.
"""

import enum
import errno
import os
import stat
import struct
from collections.abc import Mapping

from ccinit.errors import KernelError
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import syscall

CREATE_RULESET_VERSION = 1
NR_ADD_RULE = 445
NR_CREATE_RULESET = 444
NR_RESTRICT_SELF = 446
REQUIRED_ABI = 6  # Linux 6.12
RULE_PATH_BENEATH = 1

NET_BIND_TCP = 1
NET_CONNECT_TCP = 2
SCOPE_ABSTRACT_UNIX_SOCKET = 1
SCOPE_SIGNAL = 2


class Access(enum.IntFlag):
    """LANDLOCK_ACCESS_FS_*."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


ALL_ACCESS = (1 << 16) - 1
FILE_ACCESS = (
    Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
)
"""The rights that a rule for one file may name."""

READ = Access.READ_FILE | Access.READ_DIR
WRITE = (
    READ
    | Access.WRITE_FILE
    | Access.TRUNCATE
    | Access.MAKE_REG
    | Access.MAKE_DIR
    | Access.REMOVE_FILE
    | Access.REMOVE_DIR
    | Access.IOCTL_DEV
)


def restrict(paths: Mapping[str, Access], *, connect: bool) -> None:
    """Leave this process access to `paths` (a directory includes all below it) and nothing else.

    Args:
        paths: with the rights to each; a path that cannot be opened is left out.
        connect: whether TCP connections may be made; binding a TCP port is refused in any case.

    Raises:
        KernelError: the kernel has no Landlock, an older one, or refused.
    """
    require_abi()
    net = NET_BIND_TCP if connect else NET_BIND_TCP | NET_CONNECT_TCP
    attributes = struct.pack("<QQQ", ALL_ACCESS, net, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL)
    ruleset = syscall(
        NR_CREATE_RULESET, attributes, len(attributes), 0, operation="landlock_create_ruleset"
    )
    with Descriptor(ruleset):
        for path, access in paths.items():
            _add_path(ruleset, path, access)
        syscall(NR_RESTRICT_SELF, ruleset, 0, operation="landlock_restrict_self")


def require_abi() -> int:
    """Return the kernel's Landlock ABI.

    Raises:
        KernelError: it is below 6, or the kernel has no Landlock.
    """
    abi = syscall(
        NR_CREATE_RULESET, None, 0, CREATE_RULESET_VERSION, operation="landlock_create_ruleset"
    )
    if abi < REQUIRED_ABI:
        raise KernelError(errno.EOPNOTSUPP, "landlock_create_ruleset", f"ABI {abi}")
    return abi


def _add_path(ruleset: int, path: str, access: Access) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    with Descriptor(fd):
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= FILE_ACCESS
        rule = struct.pack("<Qi", access, fd)  # struct landlock_path_beneath_attr is packed
        syscall(
            NR_ADD_RULE,
            ruleset,
            RULE_PATH_BENEATH,
            rule,
            0,
            operation="landlock_add_rule",
            target=path,
        )
