"""Encrypt the layers of an existing image; its config and the order of its layers stay.

Annotations and other members of the manifest and of each layer's descriptor are kept. Sign after
encrypting, since a signature covers the manifest, and this makes a new one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ccinit.errors import ConfigError
from ccinit.formats.oci.image import Manifest, parse_image_document
from ccinit.formats.oci.layer_encryption import ENCRYPTED_SUFFIX
from rootfs_builder.container_image.layer_encryption import Recipient, encrypt_layer
from rootfs_builder.container_image.oci_layout import (
    MANIFEST_TYPE,
    Blob,
    ContainerImage,
    read_blob,
    write_image,
)

_WRITTEN = frozenset(("schemaVersion", "mediaType", "config", "layers"))


def encrypt_image(
    image: ContainerImage, recipients: Sequence[Recipient], layout: Path
) -> ContainerImage:
    """Write `layout` with every layer of `image` encrypted to every recipient.

    Raises:
        FormatError: `manifest.…`, as the guest would say it.
        ConfigError: `encrypt.manifest`: not OCI's manifest of one image; `encrypt.layer`: a layer
            is encrypted already; `layout.blob`.
    """
    data = read_blob(image.layout, image.digest)
    if not isinstance(parse_image_document(data), Manifest):
        raise ConfigError("encrypt.manifest", "an index of images: name one of them")
    manifest = json.loads(data)  # again, to keep the members that mean nothing to a guest
    if manifest.get("mediaType", MANIFEST_TYPE) != MANIFEST_TYPE:
        raise ConfigError("encrypt.manifest", "expected OCI's manifest, not Docker's")
    config = manifest["config"]
    return write_image(
        Blob(media_type=config["mediaType"], data=read_blob(image.layout, config["digest"])),
        [_encrypt(image.layout, layer, recipients) for layer in manifest["layers"]],
        layout,
        {name: value for name, value in manifest.items() if name not in _WRITTEN},
    )


def _encrypt(layout: Path, layer: Mapping[str, object], recipients: Sequence[Recipient]) -> Blob:
    media_type, annotations = str(layer["mediaType"]), layer.get("annotations")
    if media_type.endswith(ENCRYPTED_SUFFIX):
        raise ConfigError("encrypt.layer", f"{layer['digest']} is encrypted already")
    encrypted = encrypt_layer(read_blob(layout, layer["digest"]), recipients)
    kept = annotations if isinstance(annotations, Mapping) else {}
    return Blob(
        media_type=media_type + ENCRYPTED_SUFFIX,
        data=encrypted.blob,
        annotations={**kept, **encrypted.annotations},
    )
