"""Images that come from a registry need not be images: each refusal beside one that is taken."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from rootfs_builder.container_image.encryption import encrypt_image
from rootfs_builder.container_image.layer_encryption import KbsRecipient
from rootfs_builder.container_image.oci_layout import (
    CONFIG_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    ImageLayer,
    open_layout,
    write_layout,
)

RECIPIENT = KbsRecipient(uri=parse_resource_uri("kbs:///a/b/c", "test"), key=bytes(32))
LAYER = ImageLayer(media_type=LAYER_TYPE, blob=b"layer", diff_id=f"sha256:{'0' * 64}")


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    write_layout([LAYER], {}, tmp_path / "layout")
    return tmp_path / "layout"


def with_manifest(layout: Path, data: bytes) -> Path:
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(data)
    (layout / "index.json").write_text(json.dumps({"manifests": [{"digest": f"sha256:{digest}"}]}))
    return layout


def manifest_of(layout: Path) -> dict[str, Any]:
    name = open_layout(layout).digest.removeprefix("sha256:")
    value: dict[str, Any] = json.loads((layout / "blobs/sha256" / name).read_bytes())
    return value


def encrypt(layout: Path) -> dict[str, Any]:
    target = layout.with_name("encrypted")
    encrypt_image(open_layout(layout), [RECIPIENT], target)
    return manifest_of(target)


def test_encrypted_image_keeps_what_else_its_manifest_says(layout: Path) -> None:
    before = manifest_of(layout) | {"annotations": {"a": "b"}, "subject": {"c": "d"}}
    before["layers"][0]["annotations"] = {"e": "f"}
    after = encrypt(with_manifest(layout, json.dumps(before).encode()))
    assert (after["annotations"], after["subject"]) == ({"a": "b"}, {"c": "d"})
    assert after["config"]["digest"] == before["config"]["digest"]
    assert after["layers"][0]["mediaType"] == f"{LAYER_TYPE}+encrypted"
    assert after["layers"][0]["annotations"]["e"] == "f"


CONFIG = {"mediaType": CONFIG_TYPE, "digest": f"sha256:{'0' * 64}", "size": 2}


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (b"x", "manifest.json"),
        (b"[" * 100_000, "manifest.json"),
        (b"[]", "manifest.type"),
        (b"{}", "manifest.schema"),
        *(
            (json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, **members}).encode(), why)
            for members, why in (
                ({"config": CONFIG}, "manifest.layers"),
                ({"config": 1, "layers": []}, "manifest.config"),
                ({"config": {}, "layers": []}, "manifest.size"),
                ({"config": CONFIG, "layers": 1}, "manifest.layers"),
                ({"config": CONFIG, "layers": [1]}, "manifest.layer"),
                ({"config": CONFIG, "layers": [{"mediaType": LAYER_TYPE}]}, "manifest.size"),
                ({"config": CONFIG, "layers": []}, "manifest.layers"),
                (
                    {"config": CONFIG, "layers": [{**CONFIG, "mediaType": LAYER_TYPE}]},
                    "layout.blob",
                ),
            )
        ),
    ],
)
def test_manifest_that_is_none_is_refused(layout: Path, manifest: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        encrypt(with_manifest(layout, manifest))
    assert refused.value.reason == reason


def test_index_and_dockers_manifest_are_refused(layout: Path) -> None:
    index = {"schemaVersion": 2, "manifests": []}
    docker = manifest_of(layout) | {
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json"
    }
    for document in (index, docker):
        with pytest.raises(CcinitError) as refused:
            encrypt(with_manifest(layout, json.dumps(document).encode()))
        assert refused.value.reason == "encrypt.manifest"


@pytest.mark.parametrize(
    "index",
    ["[" * 100_000, "[]", "{}", '{"manifests": [1]}', '{"manifests": "x"}', " " * (1 << 21)],
)
def test_layout_without_one_image_is_refused(layout: Path, index: str) -> None:
    assert open_layout(layout).digest
    (layout / "index.json").write_text(index)
    with pytest.raises(CcinitError) as refused:
        open_layout(layout)
    assert refused.value.reason == "layout.image"


def test_layout_without_blobs_is_none(layout: Path) -> None:
    (layout / "blobs").rename(layout / "elsewhere")
    with pytest.raises(CcinitError, match="No such file or directory") as refused:
        open_layout(layout)
    assert refused.value.reason == "layout.missing"


def test_layout_that_may_not_be_read_is_told_from_none(
    layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(CcinitError, match="Permission denied"):
        open_layout(layout)
