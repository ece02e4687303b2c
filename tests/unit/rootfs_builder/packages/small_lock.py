"""A lock of two packages, and what is changed in one."""

from datetime import UTC, datetime

from rootfs_builder.packages.lock import (
    LockedPackage,
    PackageLock,
)

A = LockedPackage(name="a", version="1:2.0-1", sha256="a" * 64)
B = LockedPackage(name="b", version="3~rc1", sha256="b" * 64)
LOCK = PackageLock(date=datetime(2026, 5, 1, 12, 30, tzinfo=UTC), packages=(A, B))


def changed(package: LockedPackage, version: str, digit: str) -> LockedPackage:
    return LockedPackage(name=package.name, version=version, sha256=digit * 64)
