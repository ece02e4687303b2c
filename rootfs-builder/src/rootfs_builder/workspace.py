"""Where a build reads and writes; the only place that knows a path of the repository."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Workspace:
    """The repository with its `build` folder; nothing outside of it is written."""

    repository: Path

    @property
    def lists(self) -> Path:
        """Data files that say what is in the tools tree, the root and the initrd."""
        return self.repository / "rootfs-builder" / "mkosi"

    @property
    def guest_requirements(self) -> Path:
        """Locked Python packages of the guest."""
        return self.repository / "requirements" / "guest.txt"

    @property
    def package_lock(self) -> Path:
        """Locked Debian packages of the guest."""
        return self.repository / "rootfs-builder" / "packages.lock"

    @property
    def guest_sources(self) -> Path:
        """The guest's own Python package."""
        return self.repository / "ccinit"

    @property
    def build(self) -> Path:
        """Everything that is made."""
        return self.repository / "build"

    @property
    def mkosi(self) -> Path:
        """What mkosi reads and writes (the paths in mkosi.conf)."""
        return self.build / "mkosi"

    @property
    def package_cache(self) -> Path:
        """Debian packages as downloaded."""
        return self.build / "cache" / "packages"

    @property
    def wheel_cache(self) -> Path:
        """Wheels as downloaded."""
        return self.build / "cache" / "wheels"

    @property
    def staging(self) -> Path:
        """Trees and parts on their way into an image."""
        return self.build / "staging"

    @property
    def builder_key(self) -> Path:
        """The key that signs what is published."""
        return self.build / "builder-key.pem"

    @property
    def image_lock(self) -> Path:
        """Held by whoever writes below `mkosi` and `staging`."""
        return self.build / "image.lock"

    def prepare(self) -> None:
        """Make the folders that must exist before mkosi starts."""
        for path in (
            self.mkosi / "cache",
            self.mkosi / "output",
            self.mkosi / "sandbox",
            self.mkosi / "workspace",
            self.package_cache,
            self.wheel_cache,
            self.staging,
        ):
            path.mkdir(parents=True, exist_ok=True)
