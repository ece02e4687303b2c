import hashlib
import json
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from rootfs_builder.container_image.oci_layout import (
    CONFIG_TYPE,
    LAYER_TYPE,
    Blob,
    ContainerImage,
    copy_layout,
    open_layout,
    placing,
    read_blob,
    write_image,
)

LAYER = Blob(media_type=LAYER_TYPE, data=b"layer")
NAMED = str(LAYER.descriptor()["digest"])


def image_that_names(layout: Path, digest: object) -> ContainerImage:
    """Return an image whose manifest has this in place of its layer's digest."""
    image = write_image(Blob(media_type=CONFIG_TYPE, data=b"{}"), [LAYER], layout)
    manifest = json.loads(read_blob(layout, image.digest))
    manifest["layers"][0]["digest"] = digest
    data = json.dumps(manifest).encode()
    changed = hashlib.sha256(data).hexdigest()
    (layout / "blobs" / "sha256" / changed).write_bytes(data)
    index = (layout / "index.json").read_text()
    (layout / "index.json").write_text(index.replace(image.digest, f"sha256:{changed}"))
    return open_layout(layout)


def test_layout_is_copied_whole(tmp_path: Path) -> None:
    image = image_that_names(tmp_path / "source", NAMED)
    copy_layout(image, tmp_path / "copy")
    assert open_layout(tmp_path / "copy").digest == image.digest


@pytest.mark.parametrize(
    "digest",
    [
        NAMED[:-1] + "g",
        NAMED.removeprefix("sha256:"),
        f"sha256:../sha256/{NAMED.removeprefix('sha256:')}",
        NAMED + "0" * 300,
        [NAMED] * 99,
        "sha256:\0",
        None,
    ],
)
def test_what_names_no_blob_is_refused_in_a_line(tmp_path: Path, digest: object) -> None:
    image = image_that_names(tmp_path / "source", digest)
    with pytest.raises(ConfigError) as refused:
        copy_layout(image, tmp_path / "copy")
    assert refused.value.reason == "layout.blob"
    assert len(refused.value.detail) < len(str(tmp_path)) + 120
    with pytest.raises(ConfigError) as refused:
        read_blob(image.layout, digest)
    assert refused.value.reason == "layout.blob"


def test_blob_that_is_not_there_is_not_an_empty_one(tmp_path: Path) -> None:
    image = image_that_names(tmp_path / "source", NAMED)
    empty = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    with pytest.raises(ConfigError) as refused:
        read_blob(image.layout, empty)
    assert refused.value.reason == "layout.blob"
    (image.layout / "blobs" / "sha256" / empty.removeprefix("sha256:")).touch()
    assert read_blob(image.layout, empty) == b""


def test_layout_that_finds_no_room_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    layout = tmp_path / "web"

    def write(to: str) -> None:
        with placing(layout) as partial:
            partial.mkdir()
            Path(to).write_bytes(b"much")

    with pytest.raises(OSError, match="No space left") as full:
        write("/dev/full")
    assert full.value.filename == str(layout)
    with pytest.raises(FileNotFoundError) as absent:
        write(str(tmp_path / "absent" / "blob"))
    assert absent.value.filename == str(tmp_path / "absent" / "blob")
    assert list(tmp_path.iterdir()) == []
