"""Read apt's package lists: which versions were available besides those that were taken.

Specification: Debian repository format, "Packages" indices; sources of apt name their files
`…_dists_SUITE_COMPONENT_binary-ARCH_Packages`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from rootfs_builder.packages.lock import IsNewer, LockedPackage

_FILE: Final = re.compile(r"_dists_(?P<suite>[^_]+)_.*_Packages$")
_FIELD: Final = re.compile(r"^(Package|Version): (.*)$")


def read_versions(lists: Path) -> Mapping[str, Mapping[str, frozenset[str]]]:
    """Return the versions of every package by name and suite.

    Args:
        lists: folder of package lists, as apt leaves them.

    Raises:
        ConfigError: `lock.lists`, there are none.
    """
    versions: dict[str, dict[str, frozenset[str]]] = {}
    files = [
        (path, match) for path in sorted(lists.glob("*")) if (match := _FILE.search(path.name))
    ]
    for path, match in files:
        for name, version in _read_stanzas(path):
            suites = versions.setdefault(name, {})
            suites[match["suite"]] = suites.get(match["suite"], frozenset()) | {version}
    if not versions:
        raise ConfigError("lock.lists", f"no package lists in {lists}")
    return versions


def list_passed_over(
    versions: Mapping[str, Mapping[str, frozenset[str]]],
    taken: Iterable[LockedPackage],
    release: str,
    is_newer: IsNewer,
) -> tuple[str, ...]:
    """Return one line for each package of which another suite has a newer version.

    Args:
        versions: as `read_versions` gives them.
        taken: the packages that were preferred.
        release: the suite of the point release, which is not looked at.
        is_newer: compares versions.
    """
    return tuple(
        f"{package.name}: {package.version}; {suite} has {version}"
        for package in taken
        for suite, offered in sorted(versions.get(package.name, {}).items())
        for version in sorted(offered)
        if suite != release and version != package.version and is_newer(version, package.version)
    )


def _read_stanzas(path: Path) -> Iterator[tuple[str, str]]:
    name = ""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if field := _FIELD.match(line):
                if field[1] == "Package":
                    name = field[2]
                else:
                    yield name, field[2]
