"""Layers and OCI layouts (image-spec image-layout.md): equal input gives equal bytes.

What is in an image and how its layers are compressed is `container_image`'s business.
"""

import hashlib
import io
import json
import stat
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

EPOCH: Final = 1_735_689_600
"""2025-01-01: the time of every file that no package brought, and the latest of all."""

INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
TAG: Final = "image"


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


def tar_tree(root: Path) -> bytes:
    """Return a tar of a directory: sorted, numeric owners, times no later than `EPOCH` if ours."""
    output = io.BytesIO()
    names: dict[tuple[int, int], str] = {}
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in (root, *sorted(root.rglob("*"), key=lambda path: path.parts)):
            status = path.lstat()
            name = str(path.relative_to(root))
            entry = tarfile.TarInfo(name)
            entry.mode = stat.S_IMODE(status.st_mode)
            entry.uid, entry.gid = status.st_uid, status.st_gid
            entry.mtime = min(int(status.st_mtime), EPOCH)
            first = names.setdefault((status.st_dev, status.st_ino), name)
            if path.is_symlink():
                entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(entry)
            elif path.is_dir():
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            elif first != name:
                entry.type, entry.linkname = tarfile.LNKTYPE, first
                tar.addfile(entry)
            else:
                entry.size = status.st_size
                with path.open("rb") as content:
                    tar.addfile(entry, content)
    return output.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class TarSource:
    """One entry of a layer that is written by hand; `content` None makes a directory."""

    path: str
    content: bytes | None = b""
    mode: int = 0o644
    owner: int = 0
    hard_link: str = ""


def tar_entries(entries: Iterable[TarSource]) -> bytes:
    """Return a tar of the given entries in their order."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for source in entries:
            entry = tarfile.TarInfo(source.path)
            entry.mode, entry.mtime = source.mode, EPOCH
            entry.uid = entry.gid = source.owner
            if source.hard_link:
                entry.type, entry.linkname = tarfile.LNKTYPE, source.hard_link
            elif source.content is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(source.content)
            tar.addfile(entry, io.BytesIO(source.content or b""))
    return output.getvalue()


def write_layout(
    layers: Sequence[ImageLayer], config: Mapping[str, object], layout: Path
) -> ContainerImage:
    """Write an OCI layout (image-spec image-layout.md) with one image for linux/amd64."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    total = 0

    def put(media_type: str, data: bytes) -> dict[str, object]:
        nonlocal total
        total += len(data)
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def put_json(media_type: str, value: Mapping[str, object]) -> dict[str, object]:
        return put(media_type, json.dumps(value, sort_keys=True, separators=(",", ":")).encode())

    created = "2025-01-01T00:00:00Z"
    image_config = {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": "rootfs-builder"} for _layer in layers],
    }
    manifest = put_json(
        MANIFEST_TYPE,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": put_json(CONFIG_TYPE, image_config),
            "layers": [put(layer.media_type, layer.blob) for layer in layers],
        },
    )
    named = {**manifest, "annotations": {"org.opencontainers.image.ref.name": TAG}}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [named]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return ContainerImage(layout=layout, digest=str(manifest["digest"]), bytes=total)
