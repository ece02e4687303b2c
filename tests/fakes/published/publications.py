"""Published folders of small images, signed with a fixed key."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rootfs_builder.packages.lock import LockedPackage, PackageLock
from rootfs_builder.packages.wheels import Requirement
from rootfs_builder.publication.publish import publish
from tests.fakes.published.built_image import write_built_image

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LOCK = PackageLock(
    date=datetime(2026, 1, 2, tzinfo=UTC),
    packages=(
        LockedPackage(name="libc6", version="2.41-12", sha256="1" * 64),
        LockedPackage(name="python3.13", version="3.13.5-1", sha256="2" * 64),
    ),
)
WHEELS = (Requirement(name="msgpack", version="1.2.4", sha256=frozenset({"3" * 64})),)


def write_publication(folder: Path, profiles: tuple[str, ...] = ("prod", "test")) -> str:
    """Write images and everything beside them; return the image id."""
    for profile in profiles:
        write_built_image(folder, profile)
    return publish(folder, LOCK, WHEELS, KEY)
