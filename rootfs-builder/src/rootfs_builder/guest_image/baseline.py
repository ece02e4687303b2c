"""What no guest may contain, whoever lists it: ways in, ways out, and privileges by file mode.

The lists of an image say what is in it; this says what may not be, in our lists or in those that a
project adds. A build checks what it has planned, and a test checks what was published.
"""

import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from ccinit.errors import ConfigError
from rootfs_builder.guest_image.kernel_modules import FORBIDDEN

_SHELLS: Final = frozenset({"ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "sh", "zsh"})
_LOGINS: Final = frozenset(
    {"agetty", "dropbear", "getty", "login", "sshd", "su", "sudo", "sulogin", "telnetd"}
)
_AGENTS: Final = frozenset(
    {"cloud-init", "fw_printenv", "google_guest_agent", "qemu-ga", "spice-vdagentd", "waagent"}
)
_MANAGERS: Final = frozenset(
    {"init-system-helpers", "kexec", "modprobe", "systemctl", "systemd", "udevadm", "systemd-udevd"}
)
_PROGRAMS: Final = {
    **dict.fromkeys(_SHELLS, "a shell"),
    **dict.fromkeys(_LOGINS, "a login"),
    **dict.fromkeys(_AGENTS, "an agent of the host"),
    **dict.fromkeys(_MANAGERS, "a service manager, or one of kernel modules"),
}
_UNITS: Final = re.compile(
    r"(^|/)(systemd|udev)/(system|user|network|rules\.d|system-generators|generators)(/|$)"
    r"|\.(service|socket|timer|mount|automount|swap|path|target|slice|rules)$"
)
_AUTHORITIES: Final = re.compile(
    r"(^|/)(ssl/certs|ca-certificates|pki)(/|$)|(^|/)cacert\.pem$|\.(crt|cer|p12)$"
)
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----\nM"
_WRITABLE: Final = 0o022
_PRIVILEGED: Final = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_NULL_DEVICE: Final = "dev/null"
"""A device of an initrd, which everybody may write to."""
_DEVICES: Final = frozenset({_NULL_DEVICE, "dev/urandom"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of an image.

    Attributes:
        path: without leading slash.
        mode: as in `st_mode`, with its type.
        data: content of a regular file.
    """

    path: str
    mode: int
    data: bytes = b""


def list_violations(members: Iterable[Member]) -> tuple[str, ...]:
    """Return one line for each thing that a guest must not hold; empty for a good image."""
    return tuple(f"{member.path}: {reason}" for member in members for reason in _judge(member))


def require_baseline(where: str, members: Iterable[Member]) -> None:
    """Refuse a part of an image.

    Raises:
        ConfigError: `image.baseline`, with everything that is wrong.
    """
    if found := list_violations(members):
        raise ConfigError("image.baseline", "\n".join((f"{where} must not hold", *found)))


def _judge(member: Member) -> Iterator[str]:
    name = PurePosixPath(member.path).name
    if name in _PROGRAMS:
        yield _PROGRAMS[name]
    if _UNITS.search(member.path):
        yield "a unit, a generator or a rule"
    if _AUTHORITIES.search(member.path) or _CERTIFICATE in member.data:
        yield "a public authority"
    if _module_name(name) in FORBIDDEN:
        yield "a kernel module that talks to the host"
    if stat.S_ISLNK(member.mode):
        return
    if member.mode & _PRIVILEGED:
        yield "a mode that gives rights"
    if member.mode & _WRITABLE and member.path != _NULL_DEVICE:
        yield "writable for others"
    if not (stat.S_ISREG(member.mode) or stat.S_ISDIR(member.mode) or member.path in _DEVICES):
        yield "neither file nor folder nor link"


def _module_name(name: str) -> str:
    stem, separator, _ = name.partition(".ko")
    return stem.replace("-", "_") if separator else ""
