"""Where a container image is taken from and put: an OCI layout, or a registry through skopeo.

`oci:DIRECTORY` or `docker://HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`, as skopeo writes them. An image
from a registry is copied into a layout first; pushing changes nothing, so digests stay the same.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ccinit.errors import ConfigError
from measured_boot.command_line.files import MAX_KEY_BYTES, read_capped
from rootfs_builder.container_image.oci_layout import (
    TAG,
    ContainerImage,
    copy_layout,
    open_layout,
    require_absent,
)
from rootfs_builder.tools_tree import ToolsTree

_LAYOUT: Final = "oci:"
_REGISTRY: Final = "docker://"
_MAX_SECONDS: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """How registries are reached.

    Attributes:
        tools: runs skopeo.
        ca: PEM file of the registry's authority, or None.
        credential: `user:password`, or empty.
        auth_file: a containers-auth.json, or None.
    """

    tools: ToolsTree
    ca: Path | None = None
    credential: str = ""
    auth_file: Path | None = None

    def copy(self, source: str, target: str, folder: Path, side: str, *options: str) -> None:
        """Run `skopeo copy`, which sees `folder`; the registry is on `side` (`src-` or `dest-`).

        Raises:
            ConfigError: `tools.skopeo`.
        """
        command = ("skopeo", f"--command-timeout={_MAX_SECONDS}s", "copy", "--quiet")
        with self._reach(side) as (words, folders):
            self.tools.run(
                (*command, "--insecure-policy", *options, *words, source, target),
                directories=(folder, *folders),
            )

    def inspect(self, location: str) -> bytes:
        """Return the manifest or index at a registry's location, byte for byte.

        Raises:
            ConfigError: `tools.skopeo`.
        """
        with self._reach("") as (words, folders):
            return self.tools.run(
                ("skopeo", "inspect", "--raw", *words, location), directories=folders
            )

    @contextmanager
    def _reach(self, side: str) -> Iterator[tuple[tuple[str, ...], tuple[Path, ...]]]:
        """Yield skopeo's options for one side, and the folders that it has to see.

        skopeo takes every `*.crt` in a folder, and clients' keys beside them, so the authority gets
        a folder of its own.
        """
        words = [f"--{side}creds={self.credential}"] if self.credential else []
        with TemporaryDirectory(prefix="ccinit-registry-") as name:
            folder = Path(name)
            if self.ca is not None:
                (folder / "ca.crt").write_bytes(read_capped(self.ca, MAX_KEY_BYTES))
                words.append(f"--{side}cert-dir={folder}")
            if self.auth_file is not None:
                (folder / "auth.json").write_bytes(read_capped(self.auth_file, MAX_KEY_BYTES))
                words.append(f"--{side}authfile={folder / 'auth.json'}")
            yield tuple(words), (folder,)


def read_image(location: str, registries: Registries, work: Path, *options: str) -> ContainerImage:
    """Return the image at `location`; one from a registry is copied to a layout below `work`.

    Args:
        location: one of the two forms.
        registries: how they are reached.
        work: a folder for the layout.
        options: for skopeo; with `--preserve-digests` it refuses what would have to be converted.

    Raises:
        ConfigError: `image.location`, `layout.…`, `tools.skopeo`.
    """
    layout = _layout_of(location)
    if layout is None:
        layout = work / "source"
        registries.copy(location, f"{_LAYOUT}{layout}:{TAG}", work, "src-", *options)
    return open_layout(layout)


def read_digest(location: str, registries: Registries) -> str:
    """Return the digest of the manifest or index at `location`, as it is there.

    Raises:
        ConfigError: `image.location`, `layout.…`, `tools.skopeo`.
    """
    layout = _layout_of(location)
    if layout is None:
        return f"sha256:{hashlib.sha256(registries.inspect(location)).hexdigest()}"
    return open_layout(layout).digest


def write_image_to(image: ContainerImage, location: str, registries: Registries) -> str:
    """Put an image where `location` says; return its reference or its digest.

    Raises:
        ConfigError: as `require_target`; `layout.blob`, `tools.skopeo`.
    """
    layout = _layout_of(location)
    if layout is not None:
        copy_layout(image, layout)
        return image.digest
    registries.copy(
        f"{_LAYOUT}{image.layout}:{TAG}",
        location,
        image.layout,
        "dest-",
        "--preserve-digests",
    )
    return f"{repository_of(location)}@{image.digest}"


def require_target(location: str) -> None:
    """Refuse a location that nothing could be written to, before minutes of work and not after.

    Raises:
        ConfigError: `image.location`, `image.exists`.
    """
    layout = _layout_of(location)
    if layout is not None:
        require_absent(layout)


def repository_of(location: str) -> str:
    """Return `host[:port]/repository` of a registry's location, or of such a text itself."""
    name = location.removeprefix(_REGISTRY).partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def is_registry(location: str) -> bool:
    """Whether the location is in a registry.

    Raises:
        ConfigError: `image.location`.
    """
    return _layout_of(location) is None


def _layout_of(location: str) -> Path | None:
    """Return the layout's directory, None for a registry's location; anything else is refused."""
    if location.startswith(_LAYOUT):
        return Path(location.removeprefix(_LAYOUT)).resolve()
    if not location.startswith(_REGISTRY):
        raise ConfigError("image.location", f"{location!r} is neither oci: nor docker://")
    return None
