import json

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import parse_digest, sha256_digest
from ccinit.formats.oci.image import Descriptor, MediaType
from ccinit.pull.documents import verify_config, verify_documents, verify_selected
from tests.fakes.images.registry import make_image, make_index

IMAGE = make_image([b"one", b"two"])
PINNED = parse_digest(IMAGE.digest)
INDEX = make_index(IMAGE, platforms=[("linux", "amd64"), ("linux", "arm64")])


def test_manifest_that_is_pinned_is_the_chain() -> None:
    manifest = verify_documents((IMAGE.manifest,), PINNED)
    assert len(manifest.layers) == 2
    assert verify_config(IMAGE.config, manifest).cmd == ("/bin/true",)


def test_index_that_is_pinned_leads_to_its_manifest() -> None:
    manifest = verify_documents((INDEX, IMAGE.manifest), sha256_digest(INDEX))
    assert manifest == verify_documents((IMAGE.manifest,), PINNED)


@pytest.mark.parametrize(
    ("documents", "pinned", "reason"),
    [
        ((), PINNED, "pull.documents"),
        ((IMAGE.manifest + b" ",), PINNED, "pull.manifest_digest"),
        ((IMAGE.manifest, IMAGE.manifest), PINNED, "pull.documents"),
        ((INDEX,), sha256_digest(INDEX), "pull.documents"),
        ((INDEX, INDEX), sha256_digest(INDEX), "pull.blob_size"),
        (
            (INDEX, IMAGE.manifest.replace(b"gzip", b"zstd", 1)),
            sha256_digest(INDEX),
            "pull.blob_digest",
        ),
    ],
)
def test_chain_that_breaks_is_refused(
    documents: tuple[bytes, ...], pinned: object, reason: str
) -> None:
    with pytest.raises(CcinitError) as refused:
        verify_documents(documents, pinned)  # type: ignore[arg-type]
    assert refused.value.reason == reason


@pytest.mark.parametrize("content_type", [None, "", MediaType.OCI_MANIFEST.value])
def test_index_that_an_index_gives_out_as_a_manifest_is_none(content_type: str | None) -> None:
    """Neither it nor the registry need say what it is."""
    untyped = {key: value for key, value in json.loads(INDEX).items() if key != "mediaType"}
    for data, is_good in ((IMAGE.manifest, True), (json.dumps(untyped).encode(), False)):
        selected = Descriptor(
            media_type=MediaType.OCI_MANIFEST, digest=sha256_digest(data), size=len(data)
        )
        if is_good:
            assert len(verify_selected(data, selected, content_type).layers) == 2
            continue
        with pytest.raises(CcinitError) as refused:
            verify_selected(data, selected, content_type)
        reason = "manifest.media_type" if content_type else "manifest.nested"
        assert refused.value.reason == reason


def test_config_that_is_not_the_manifests_is_refused() -> None:
    manifest = verify_documents((IMAGE.manifest,), PINNED)
    with pytest.raises(CcinitError) as refused:
        verify_config(IMAGE.config.replace(b"true", b"evil"), manifest)
    assert refused.value.reason == "pull.blob_digest"


def test_r57_config_with_too_few_diff_ids_is_refused() -> None:
    lying = make_image([b"one", b"two"], diff_ids=["sha256:" + "a" * 64])
    manifest = verify_documents((lying.manifest,), parse_digest(lying.digest))
    with pytest.raises(CcinitError) as refused:
        verify_config(lying.config, manifest)
    assert refused.value.reason == "image_config.diff_ids"
