"""What a bundle's `linux.cgroupsPath` names if its engine leaves cgroups to systemd. Pure.

Specification: runc's systemd cgroup driver (`slice:prefix:name`); systemd.unit(5),
systemd.slice(5).
"""

import re
from dataclasses import dataclass
from typing import Final

from ccinit.errors import ConfigError

_PARTS: Final = 3
_ROOT: Final = "-.slice"
_DEFAULT_SLICE: Final = "system.slice"
_SLICE_SUFFIX: Final = ".slice"
_NAME_CHARACTERS: Final = 255
# No escapes, which stand for any character, and no templates: no engine sends any.
_SLICE: Final = re.compile(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*\.slice")
_SCOPE: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*\.scope")


@dataclass(frozen=True, slots=True)
class ScopeUnit:
    """A unit for processes that systemd has not started itself.

    Attributes:
        name: with its suffix.
        slice: name of the unit above it.
    """

    name: str
    slice: str

    @property
    def names(self) -> tuple[str, ...]:
        """The way to its cgroup from the root: of `a-b.slice`, by `a.slice` and `a-b.slice`."""
        if self.slice == _ROOT:
            return (self.name,)
        words = self.slice.removesuffix(_SLICE_SUFFIX).split("-")
        above = ("-".join(words[: count + 1]) for count in range(len(words)))
        return (*(f"{stem}{_SLICE_SUFFIX}" for stem in above), self.name)


def parse_scope_unit(text: str) -> ScopeUnit | None:
    """Return the unit; None if it is a path.

    Raises:
        ConfigError: `cgroup.path`: systemd has no such units, or not by this name.
    """
    parts = text.split(":")
    if text.startswith("/") or len(parts) != _PARTS:
        return None
    above, prefix, name = parts
    unit = ScopeUnit(
        name=f"{prefix}-{name}.scope" if prefix else f"{name}.scope",
        slice=above or _DEFAULT_SLICE,
    )
    is_slice = unit.slice == _ROOT or _SLICE.fullmatch(unit.slice)
    is_short = max(len(unit.name), len(unit.slice)) <= _NAME_CHARACTERS
    if not (name and is_slice and _SCOPE.fullmatch(unit.name) and is_short):
        raise ConfigError("cgroup.path", f"{text!r:.200}: expected SLICE.slice:PREFIX:NAME")
    return unit
