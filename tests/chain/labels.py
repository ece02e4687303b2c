"""A label on the container image: words that come with an image and that no pod needs."""

import json
from pathlib import Path

from rootfs_builder.container_image.oci_layout import (
    CONFIG_TYPE,
    Blob,
    ContainerImage,
    encode_json,
    open_layout,
    read_blob,
    write_image,
)


def label_image(layout: Path, label: str, labelled: Path) -> ContainerImage:
    """Write the image of a layout anew at `labelled`, with a label of this value."""
    manifest = json.loads(read_blob(layout, open_layout(layout).digest))
    config = json.loads(read_blob(layout, manifest["config"]["digest"]))
    config["config"]["Labels"] = {"org.example.note": label}
    layers = [
        Blob(media_type=layer["mediaType"], data=read_blob(layout, layer["digest"]))
        for layer in manifest["layers"]
    ]
    return write_image(Blob(media_type=CONFIG_TYPE, data=encode_json(config)), layers, labelled)


def read_config(layout: Path) -> bytes:
    """Return the image config of a layout, as a registry has it."""
    manifest = json.loads(read_blob(layout, open_layout(layout).digest))
    return read_blob(layout, manifest["config"]["digest"])
