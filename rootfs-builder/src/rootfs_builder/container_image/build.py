"""An image of Debian packages, of a directory, or of both; equal input gives equal bytes."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ccinit.errors import ConfigError
from rootfs_builder.container_image.debian_root import (
    extract_packages,
    fetch_packages,
    settle_certificates,
    settle_users,
)
from rootfs_builder.container_image.layer_tar import tar_tree
from rootfs_builder.container_image.oci_layout import (
    LAYER_TYPE,
    ContainerImage,
    ImageLayer,
    placing,
    require_absent,
    write_layout,
)
from rootfs_builder.tools_tree import ToolsTree

_COMMANDS = {
    "gzip": ("gzip", "-n", "-6"),
    "zstd": ("zstd", "-q", "-c", "-10", "--single-thread"),
}
COMPRESSIONS = ("zstd", "gzip", "none")


def build_from_directory(
    tools: ToolsTree,
    root: Path,
    config: Mapping[str, object],
    layout: Path,
    compression: str,
) -> ContainerImage:
    """Make an image of a directory's content; everything in it belongs to root.

    Args:
        tools: runs gzip and zstd.
        root: the directory.
        config: the image's `config` object (image-spec config.md).
        layout: the OCI layout directory to write; it must not exist.
        compression: one of `COMPRESSIONS`.

    Raises:
        ConfigError: `build.directory`, `build.file`, `image.exists`.
    """
    require_absent(layout)
    _require_directory(root)
    return _write(tools, (tar_tree(root, owner=0),), config, layout, compression)


def build_from_packages(
    tools: ToolsTree,
    packages: Sequence[str],
    cache: Path,
    config: Mapping[str, object],
    layout: Path,
    compression: str,
    *,
    above: Path | None = None,
) -> ContainerImage:
    """Make an image of Debian packages and all they depend on; see `build_from_directory`.

    Args:
        tools: runs apt and dpkg-deb, too.
        packages: their names.
        cache: folder that keeps downloaded packages for the next time.
        config: as there.
        layout: as there.
        compression: as there.
        above: a directory whose content, of root, is a second layer.

    Raises:
        ConfigError: `tools.…`, `container_image.packages`, `image.exists`, `build.directory`,
            `build.file`.
    """
    require_absent(layout)
    if above is not None:
        _require_directory(above)
    files = fetch_packages(tools, cache, packages)
    layout.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", suffix=".root", dir=layout.parent) as folder:
        root = Path(folder)
        extract_packages(tools, files, root)
        settle_users(root)
        settle_certificates(root)
        tars = [tar_tree(root)]
        if above is not None:
            _require_no_link_hidden(root, above)
            tars.append(tar_tree(above, owner=0))
        return _write(tools, tars, config, layout, compression)


def pack_layer(tools: ToolsTree, tar: bytes, compression: str) -> ImageLayer:
    """Return a layer; `compression` is gzip, zstd or none."""
    command = _COMMANDS.get(compression)
    return ImageLayer(
        media_type=f"{LAYER_TYPE}+{compression}" if command else LAYER_TYPE,
        blob=tools.run(command, input_data=tar) if command else tar,
        diff_id=f"sha256:{hashlib.sha256(tar).hexdigest()}",
    )


def _require_directory(path: Path) -> None:
    if not path.is_dir():
        raise ConfigError("build.directory", f"{path} is not a directory")


def _require_no_link_hidden(root: Path, above: Path) -> None:
    """Refuse a directory in a link's place: one over Debian's link /bin would hide all programs."""
    for path in sorted(above.rglob("*")):
        below = root / path.relative_to(above)
        if path.is_dir() and not path.is_symlink() and below.is_symlink():
            raise ConfigError(
                "build.directory",
                f"{path} would hide the packages' link /{path.relative_to(above)} to "
                f"{below.readlink()}: put what is in it there",
            )


def _write(
    tools: ToolsTree,
    tars: Sequence[bytes],
    config: Mapping[str, object],
    layout: Path,
    compression: str,
) -> ContainerImage:
    with placing(layout) as partial:
        layers = tuple(pack_layer(tools, tar, compression) for tar in tars)
        image = write_layout(layers, config, partial)
    return replace(image, layout=layout)
