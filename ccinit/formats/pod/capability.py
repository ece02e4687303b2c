"""Capabilities that `pod.toml` can give a container (capabilities(7)).

The others are left out on purpose: with them a container could reach the guest's kernel, disks,
clock or processes, and so what protects the pod.
"""

from enum import StrEnum


class Capability(StrEnum):
    """A capability's name in the manifest; the kernel's name has `CAP_` before it."""

    AUDIT_WRITE = "AUDIT_WRITE"
    CHOWN = "CHOWN"
    DAC_OVERRIDE = "DAC_OVERRIDE"
    FOWNER = "FOWNER"
    FSETID = "FSETID"
    IPC_LOCK = "IPC_LOCK"
    KILL = "KILL"
    NET_ADMIN = "NET_ADMIN"
    NET_BIND_SERVICE = "NET_BIND_SERVICE"
    NET_RAW = "NET_RAW"
    SETFCAP = "SETFCAP"
    SETGID = "SETGID"
    SETPCAP = "SETPCAP"
    SETUID = "SETUID"
    SYS_CHROOT = "SYS_CHROOT"
    SYS_NICE = "SYS_NICE"
