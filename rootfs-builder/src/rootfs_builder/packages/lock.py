"""The lock file of Debian packages: which versions, with which content, an image is made of.

A distribution's archive changes: a security update replaces yesterday's version. The lock says what
an image was made of, pins apt to it, and lets a release refuse anything else. apt downloads, and
verifies signatures.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ccinit.errors import FormatError

IsNewer = Callable[[str, str], bool]
"""Whether the first Debian version is newer than the second."""

_DATE: Final = "%Y-%m-%dT%H:%M:%SZ"
_SHA256_HEX: Final = 64
_HEADER: Final = (
    "# Debian packages that the guest image is made of: name, version, SHA-256 of the .deb.\n"
    "# Written by `rootfs-builder lock`. The date is the earliest time that a guest believes.\n"
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LockedPackage:
    """One package: name, Debian version, SHA-256 of its file in lower-case hex."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageLock:
    """Contents of the lock file.

    Attributes:
        date: when it was made, whole seconds, UTC.
        packages: sorted by name, each name once.
    """

    date: datetime
    packages: tuple[LockedPackage, ...]


def parse_lock(text: str) -> PackageLock:
    """Return the lock that `text` holds.

    Raises:
        FormatError: a line has another form, names are not sorted, or the date is missing.
    """
    date: datetime | None = None
    packages: list[LockedPackage] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        match line.split(" "):
            case ["date", when] if date is None:
                date = _parse_date(when, number)
            case [name, version, sha256] if len(sha256) == _SHA256_HEX:
                packages.append(LockedPackage(name=name, version=version, sha256=sha256))
            case _:
                raise FormatError("lock.line", f"line {number} is neither a date nor a package")
    names = [package.name for package in packages]
    if names != sorted(set(names)):
        raise FormatError("lock.order", "packages are not sorted by name, each once")
    if date is None:
        raise FormatError("lock.date", "no line says the date")
    return PackageLock(date=date, packages=tuple(packages))


def encode_lock(lock: PackageLock) -> str:
    """Return the text of a lock file."""
    lines = (f"{package.name} {package.version} {package.sha256}\n" for package in lock.packages)
    return f"{_HEADER}date {lock.date.strftime(_DATE)}\n{''.join(lines)}"


def encode_apt_pins(lock: PackageLock) -> str:
    """Return apt preferences that ask for the locked versions while the archive has them."""
    return "\n".join(
        f"Package: {package.name}\nPin: version {package.version}\nPin-Priority: 1001\n"
        for package in lock.packages
    )


def encode_release_pin(release: str) -> str:
    """Return apt preferences that take the point release's version wherever it has one.

    A point release's version stays in the archive until the next one; those in -security and
    -updates are replaced at any time, and a later build from the lock would then get another.
    """
    return f"Package: *\nPin: release n={release}\nPin-Priority: 990\n"


def describe_differences(
    locked: Iterable[LockedPackage],
    used: Iterable[LockedPackage],
    is_newer: IsNewer | None = None,
) -> tuple[str, ...]:
    """Return one line for each package that differs between two sets; empty if none does.

    Args:
        locked: the first set.
        used: the second.
        is_newer: compares versions, so that those that became older are marked; None marks none.
    """
    old = {package.name: package for package in locked}
    new = {package.name: package for package in used}
    lines = []
    for name in sorted(old.keys() | new.keys()):
        match old.get(name), new.get(name):
            case None, LockedPackage(version=version):
                lines.append(f"{name}: new, {version}")
            case LockedPackage(version=version), None:
                lines.append(f"{name}: gone, was {version}")
            case LockedPackage() as before, LockedPackage() as after if before != after:
                older = is_newer is not None and is_newer(before.version, after.version)
                lines.append(f"{_describe_change(before, after)}{' (older)' if older else ''}")
    return tuple(lines)


def find_replaced_content(
    locked: Iterable[LockedPackage], used: Iterable[LockedPackage]
) -> tuple[str, ...]:
    """Say which packages have the locked version but other content: expected and found."""
    old = {(package.name, package.version): package.sha256 for package in locked}
    return tuple(
        f"{package.name} {package.version}: expected {expected}, found {package.sha256}"
        for package in used
        if (expected := old.get((package.name, package.version), package.sha256)) != package.sha256
    )


def _describe_change(before: LockedPackage, after: LockedPackage) -> str:
    if before.version != after.version:
        return f"{before.name}: {before.version} -> {after.version}"
    return f"{before.name}: {before.version}, but other content"


def _parse_date(text: str, number: int) -> datetime:
    try:
        return datetime.strptime(text, _DATE).replace(tzinfo=UTC)
    except ValueError as error:
        raise FormatError("lock.date", f"line {number}: no time in UTC: {text!r}") from error
