"""User, groups, capabilities of this process, and the flags that keep it from getting more.

The order matters, and `drop_privileges` fixes it: the bounding set goes first, since dropping it
needs CAP_SETPCAP; changing the user id then clears most capabilities, all ambient ones among them;
those to keep are set at the end.
"""

import ctypes
import enum
import os
import struct

from ccinit.kernel.libc import check, kernel_error, libc, syscall

CAP_LAST = 63  # the widest a capability set can be; the kernel refuses what it does not know
LINUX_CAPABILITY_VERSION_3 = 0x20080522
NR_CAPSET = 126
PR_CAPBSET_DROP = 24
PR_CAPBSET_READ = 23
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NO_NEW_PRIVS = 38


class Capability(enum.IntEnum):
    """The capabilities that a child of ours may keep."""

    DAC_READ_SEARCH = 2
    NET_ADMIN = 12
    SYS_ADMIN = 21


def drop_privileges(uid: int, keep: frozenset[Capability]) -> None:
    """Become user and group `uid` for good, with the capabilities `keep` and no others.

    Args:
        uid: not 0.
        keep: permitted and effective afterwards; a program started from here has none.

    Raises:
        KernelError: a step was refused; the process must not go on.
    """
    if uid == 0:
        raise RuntimeError("a child does not run as root")
    drop_bounding_set(keep)
    _prctl(PR_SET_KEEPCAPS, int(bool(keep)))
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise kernel_error(error, "setresuid", str(uid)) from error
    set_capabilities(keep)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_DUMPABLE, 0)


def enter_empty_root() -> None:
    """Make an empty directory the root of this process.

    /proc/PID/mounts shows the mounts below a process's root to everybody who sees the process
    (proc_pid_mounts(5)); from this root there are none. The directory is one of this process's own.

    Raises:
        KernelError: the kernel refused.
    """
    try:
        os.chroot("/proc/self/fdinfo")
        os.chdir("/")
    except OSError as error:
        raise kernel_error(error, "chroot", "nowhere") from error


def drop_bounding_set(keep: frozenset[Capability]) -> None:
    """Drop every capability that the kernel knows, except `keep`, from the bounding set."""
    for capability in range(CAP_LAST + 1):
        if libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) < 0:
            return  # the first that the kernel does not know
        if capability not in keep:
            _prctl(PR_CAPBSET_DROP, capability)


def set_capabilities(capabilities: frozenset[Capability]) -> None:
    """Make permitted, effective and inheritable exactly `capabilities`."""
    bits = sum(1 << capability for capability in capabilities)
    low, high = bits & 0xFFFF_FFFF, bits >> 32
    header = struct.pack("<Ii", LINUX_CAPABILITY_VERSION_3, 0)
    data = struct.pack("<6I", low, low, low, high, high, high)
    syscall(NR_CAPSET, bytearray(header), data, operation="capset", target=f"{bits:#x}")


def _prctl(option: int, *arguments: int) -> None:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    check(
        libc.prctl(option, *(ctypes.c_ulong(value) for value in padded)),
        "prctl",
        f"option {option}",
    )
