"""Where a container image is taken from and put: an OCI layout, or a registry through skopeo.

`oci:DIRECTORY` or `docker://HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`, as skopeo writes them. What
comes from a registry is copied into a layout first; nothing is changed on the way out, so that a
digest stays what it was.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from rootfs_builder.oci_layout import TAG, ContainerImage, open_layout
from rootfs_builder.tools_tree import ToolsTree

_LAYOUT: Final = "oci:"
_REGISTRY: Final = "docker://"
_MAX_SECONDS: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """How registries are reached.

    Attributes:
        tools: runs skopeo.
        ca: PEM file of the registry's authority, named `*.crt`, alone in its folder; or None.
        credential: `user:password`, or empty.
    """

    tools: ToolsTree
    ca: Path | None = None
    credential: str = ""

    def options(self, side: str) -> tuple[str, ...]:
        """Return skopeo's options for its `src` or `dest` side."""
        folder = (f"--{side}-cert-dir={self.ca.parent}",) if self.ca else ()
        return (*folder, *((f"--{side}-creds={self.credential}",) if self.credential else ()))

    def copy(self, source: str, target: str, folder: Path, *options: str) -> None:
        """Run `skopeo copy`; `folder` is seen inside.

        Raises:
            ConfigError: `tools.skopeo`.
        """
        self.tools.run(
            (
                *("skopeo", f"--command-timeout={_MAX_SECONDS}s", "copy", "--quiet"),
                *("--insecure-policy", *options, source, target),
            ),
            directories=(folder, *((self.ca.parent,) if self.ca else ())),
        )


def read_image(location: str, registries: Registries, work: Path, *options: str) -> ContainerImage:
    """Return the image at `location`; one of a registry is put below `work`, as OCI has it.

    Args:
        location: one of the two forms.
        registries: how they are reached.
        work: a folder for the layout.
        options: of skopeo's; `--preserve-digests` refuses what would have to be converted.

    Raises:
        ConfigError: `image.location`, `layout.…`, `tools.skopeo`.
    """
    if location.startswith(_LAYOUT):
        return open_layout(Path(location.removeprefix(_LAYOUT)).resolve())
    if not location.startswith(_REGISTRY):
        raise ConfigError("image.location", f"{location!r} is neither oci: nor docker://")
    layout = work / "source"
    registries.copy(
        location, f"{_LAYOUT}{layout}:{TAG}", work, *registries.options("src"), *options
    )
    return open_layout(layout)


def read_digest(location: str, registries: Registries) -> str:
    """Return the digest of the manifest or index at `location`, as it is there.

    Raises:
        ConfigError: `layout.…`, `tools.skopeo`.
    """
    if not is_registry(location):
        return open_layout(Path(location.removeprefix(_LAYOUT)).resolve()).digest
    options = (option.replace("--src-", "--") for option in registries.options("src"))
    folders = (registries.ca.parent,) if registries.ca else ()
    raw = registries.tools.run(
        ("skopeo", "inspect", "--raw", *options, location), directories=folders
    )
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def write_image_to(image: ContainerImage, location: str, registries: Registries) -> str:
    """Put an image where `location` says; return its reference or its digest.

    Raises:
        ConfigError: `image.location`, `image.exists`, `tools.skopeo`.
    """
    if location.startswith(_LAYOUT):
        target = Path(location.removeprefix(_LAYOUT)).resolve()
        if target.exists():
            raise ConfigError("image.exists", f"{target} exists")
        shutil.copytree(image.layout, target)
        return image.digest
    if not location.startswith(_REGISTRY):
        raise ConfigError("image.location", f"{location!r} is neither oci: nor docker://")
    registries.copy(
        f"{_LAYOUT}{image.layout}:{TAG}",
        location,
        image.layout,
        "--preserve-digests",
        *registries.options("dest"),
    )
    return f"{repository_of(location)}@{image.digest}"


def repository_of(location: str) -> str:
    """Return `host[:port]/repository` of a registry's location, or of such a text itself."""
    name = location.removeprefix(_REGISTRY).partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def is_registry(location: str) -> bool:
    """Whether the location is in a registry."""
    return location.startswith(_REGISTRY)
