"""What a bundle's `linux.cgroupsPath` names. Pure.

Specification: OCI runtime-spec 1.2, `config-linux.md` (Cgroups Path). An engine that leaves cgroups
to systemd names a unit in place of a path (`scope_unit`).
"""

from ccinit.errors import ConfigError


def parse_cgroup_path(text: str) -> tuple[str, ...]:
    """Return the names that lead from a hierarchy's root to the cgroup, at least one.

    Raises:
        ConfigError: `cgroup.path`: it is no absolute path below the root, or not written in full.
    """
    first, *names = text.split("/")
    if first or not names or any(name in {"", ".", ".."} or "\0" in name for name in names):
        raise ConfigError("cgroup.path", f"{text!r:.200}: expected an absolute path without `..`")
    return tuple(names)
