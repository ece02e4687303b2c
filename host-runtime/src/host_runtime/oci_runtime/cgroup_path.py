"""What a bundle's `linux.cgroupsPath` names. Pure.

Specification: OCI runtime-spec 1.2, `config-linux.md` (Cgroups Path). An engine that leaves cgroups
to systemd sends `slice:prefix:name` in place of a path, as runc understands it.
"""

from typing import Final

from ccinit.errors import ConfigError

_SYSTEMD_PARTS: Final = 3


def parse_cgroup_path(text: str) -> tuple[str, ...]:
    """Return the names that lead from a hierarchy's root to the cgroup, at least one.

    Raises:
        ConfigError: `cgroup.systemd`: it is a unit of systemd's, which only systemd may make;
            `cgroup.path`: it is no absolute path below the root, or not written in full.
    """
    if not text.startswith("/") and len(text.split(":")) == _SYSTEMD_PARTS:
        raise ConfigError(
            "cgroup.systemd",
            f"{text!r:.200} is a unit of systemd's: have the engine use cgroupfs,"
            ' or leave guests in the caller\'s cgroup (cgroup = "caller")',
        )
    first, *names = text.split("/")
    if first or not names or any(name in {"", ".", ".."} or "\0" in name for name in names):
        raise ConfigError("cgroup.path", f"{text!r:.200}: expected an absolute path without `..`")
    return tuple(names)
