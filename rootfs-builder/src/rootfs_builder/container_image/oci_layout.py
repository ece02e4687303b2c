"""OCI layouts (image-spec image-layout.md): equal input gives equal bytes.

`layer_tar` beside this makes layers; `build` decides what is in an image, and how its layers are
compressed.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ccinit.errors import ConfigError, FormatError, LimitExceededError
from ccinit.formats.encoding.digest import parse_digest
from measured_boot.command_line.files import naming_place, read_capped

INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
TAG: Final = "image"
_MAX_INDEX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerImage:
    """An image in an OCI layout directory.

    Attributes:
        layout: the directory.
        digest: `sha256:…` of the manifest.
        bytes: sum of all blobs.
    """

    layout: Path
    digest: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayer:
    """One layer to be written: media type, the packed blob, digest of the tar in it."""

    media_type: str
    blob: bytes
    diff_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A blob to be written and what its descriptor says of it."""

    media_type: str
    data: bytes
    annotations: Mapping[str, str] = field(default_factory=dict)

    def descriptor(self) -> dict[str, object]:
        """Return the descriptor (image-spec descriptor.md)."""
        return {
            "mediaType": self.media_type,
            "digest": f"sha256:{hashlib.sha256(self.data).hexdigest()}",
            "size": len(self.data),
            **({"annotations": dict(self.annotations)} if self.annotations else {}),
        }


def encode_json(value: Mapping[str, object]) -> bytes:
    """Encode a document of an image; equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def write_layout(
    layers: Sequence[ImageLayer], config: Mapping[str, object], layout: Path
) -> ContainerImage:
    """Write an OCI layout (image-spec image-layout.md) with one image for linux/amd64."""
    created = "2025-01-01T00:00:00Z"
    image_config = {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": "rootfs-builder"} for _layer in layers],
    }
    return write_image(
        Blob(media_type=CONFIG_TYPE, data=encode_json(image_config)),
        [Blob(media_type=layer.media_type, data=layer.blob) for layer in layers],
        layout,
    )


def write_image(
    config: Blob, layers: Sequence[Blob], layout: Path, more: Mapping[str, object] | None = None
) -> ContainerImage:
    """Write an OCI layout with one manifest; `more` adds members to it."""
    manifest = Blob(
        media_type=MANIFEST_TYPE,
        data=encode_json(
            {
                **(more or {}),
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": config.descriptor(),
                "layers": [layer.descriptor() for layer in layers],
            }
        ),
    )
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for blob in (config, *layers, manifest):
        (blobs / hashlib.sha256(blob.data).hexdigest()).write_bytes(blob.data)
    named = {**manifest.descriptor(), "annotations": {"org.opencontainers.image.ref.name": TAG}}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [named]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    total = sum(len(blob.data) for blob in (config, *layers, manifest))
    return ContainerImage(layout=layout, digest=str(manifest.descriptor()["digest"]), bytes=total)


def require_absent(layout: Path) -> None:
    """Refuse a path where something exists already.

    Raises:
        ConfigError: `image.exists`.
    """
    if layout.exists():
        raise ConfigError("image.exists", f"{layout} exists: remove it or name another")


@contextmanager
def placing(layout: Path) -> Iterator[Path]:
    """Yield a folder that becomes `layout` if the block succeeds, and is removed otherwise.

    Raises:
        ConfigError: `image.exists`.
        OSError: always with a name, that of `layout` for a write on a full disk.
    """
    require_absent(layout)
    layout.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", suffix=".partial", dir=layout.parent) as folder:
        partial = Path(folder) / "layout"
        with naming_place(layout):
            yield partial
        partial.rename(layout)


def copy_layout(image: ContainerImage, layout: Path) -> None:
    """Copy an image, provided that all of it is there and unchanged.

    Raises:
        ConfigError: `image.exists`, `layout.blob`.
    """
    with placing(layout) as partial:
        shutil.copytree(image.layout, partial)
        for path in (partial / "blobs" / "sha256").iterdir():
            with path.open("rb") as blob:
                if hashlib.file_digest(blob, "sha256").hexdigest() != path.name:
                    raise _damaged(image.layout, f"sha256:{path.name}")
        for digest in _named_by(read_blob(partial, image.digest)):
            if _find_blob(partial, digest) is None:
                raise _damaged(image.layout, digest)


def _named_by(document: bytes) -> Iterator[object]:
    """Return the digests that a manifest or an index names."""
    try:
        content = json.loads(document)
        config = [content["config"]] if "config" in content else []
        for entry in (*config, *content.get("layers", ()), *content.get("manifests", ())):
            yield entry["digest"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError("layout.image", "what is tagged is not an image") from error


def _damaged(layout: Path, digest: object) -> ConfigError:
    return ConfigError("layout.blob", f"{layout} has no intact blob {str(digest)[:80]}")


def _find_blob(layout: Path, digest: object) -> Path | None:
    """Return the path of a blob; None if it is missing, or the digest is not one."""
    try:
        path = layout / "blobs" / "sha256" / parse_digest(str(digest)).hex
    except FormatError:
        return None
    return path if path.is_file() else None


def open_layout(layout: Path) -> ContainerImage:
    """Return the one image of a layout.

    Raises:
        ConfigError: `layout.missing`, `layout.image`: not exactly one.
    """
    try:
        index = json.loads(read_capped(layout / "index.json", _MAX_INDEX_BYTES))
        (entry,) = index["manifests"]
        digest = str(entry["digest"])
        total = sum(path.stat().st_size for path in (layout / "blobs" / "sha256").iterdir())
    except OSError as error:
        detail = f"{layout} cannot be read as an OCI layout: {error.strerror}"
        raise ConfigError("layout.missing", detail) from error
    except (LimitExceededError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError("layout.image", f"{layout} does not hold exactly one image") from error
    return ContainerImage(layout=layout, digest=digest, bytes=total)


def read_blob(layout: Path, digest: object) -> bytes:
    """Return a blob whose bytes are what `digest` says.

    Raises:
        ConfigError: `layout.blob`.
    """
    path = _find_blob(layout, digest)
    data = b"" if path is None else path.read_bytes()
    if path is None or hashlib.sha256(data).hexdigest() != path.name:
        raise _damaged(layout, digest)
    return data
