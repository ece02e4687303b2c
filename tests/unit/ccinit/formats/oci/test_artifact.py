import json

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.oci.artifact import (
    BUNDLE,
    CLASSIC,
    CLASSIC_ARTIFACT,
    parse_referrers,
    parse_signature_manifest,
    referrers_tag,
    signature_tag,
)
from tests.fakes.images.registry import descriptor, digest_of
from tests.fakes.images.signatures import annotations_of

HEX = "0123456789abcdef" * 4
BLOB = b"payload"
LAYER: dict[str, object] = {**descriptor(CLASSIC, BLOB), "annotations": {"a": "b"}}
ARTIFACT: dict[str, object] = {
    **descriptor("application/vnd.oci.image.manifest.v1+json", BLOB),
    "artifactType": BUNDLE,
}


def document(**members: object) -> bytes:
    return json.dumps({"schemaVersion": 2, **members}).encode()


def test_tags_are_those_of_cosign_and_of_the_distribution_specification() -> None:
    image = parse_digest(f"sha256:{HEX}")
    assert signature_tag(image) == f"sha256-{HEX}.sig"
    assert referrers_tag(image) == f"sha256-{HEX}"


def test_layers_that_are_no_signatures_are_left_out() -> None:
    other = {**descriptor("application/vnd.oci.image.layer.v1.tar", b"x"), "size": 1 << 40}
    (layer,) = parse_signature_manifest(document(layers=[other, LAYER]))
    assert layer.annotations == {"a": "b"}
    assert layer.blob.size == len(BLOB)
    assert parse_signature_manifest(document(layers=[])) == ()


def test_referrers_are_those_that_carry_signatures() -> None:
    other = {**ARTIFACT, "artifactType": "application/spdx+json"}
    plain = descriptor("application/vnd.oci.image.manifest.v1+json", b"y")
    classic = {**ARTIFACT, "artifactType": CLASSIC_ARTIFACT}
    found = parse_referrers(document(manifests=[other, plain, "x", ARTIFACT, classic]))
    assert [str(digest) for digest in found] == [digest_of(BLOB)] * 2


@pytest.mark.parametrize(
    ("annotations", "is_passed_over"),
    [
        (annotations_of("https://slsa.dev/provenance/v1"), True),
        (annotations_of("https://sigstore.dev/cosign/sign/v1"), False),
        (annotations_of(""), False),
        ({"dev.sigstore.bundle.content": "message-signature"}, False),
        ({"dev.sigstore.bundle.predicateType": 7}, True),
        ({}, False),
        (None, False),
        (["x"], False),
    ],
)
def test_bundle_that_states_something_else_is_no_signature(
    annotations: object, *, is_passed_over: bool
) -> None:
    bundle = {**descriptor(BUNDLE, BLOB), "size": 1000}
    found = parse_signature_manifest(document(layers=[bundle], annotations=annotations))
    assert len(found) == (0 if is_passed_over else 1)
    listed = parse_referrers(document(manifests=[{**ARTIFACT, "annotations": annotations}]))
    assert len(listed) == (0 if is_passed_over else 1)
    # Whatever its size.
    huge = document(layers=[{**bundle, "size": 16 << 20}], annotations=annotations)
    if is_passed_over:
        assert parse_signature_manifest(huge) == ()
    else:
        with pytest.raises(CcinitError) as refused:
            parse_signature_manifest(huge)
        assert refused.value.reason == "signature.manifest.size"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "signature.manifest.json"),
        (b"[]", "signature.manifest.schema"),
        (document(schemaVersion=1), "signature.manifest.schema"),
        (document(), "signature.manifest.array"),
        (document(layers=[LAYER], mediaType="text/plain"), "signature.manifest.media_type"),
        (document(layers=[LAYER] * 33), "signature.manifest.count"),
        (document(layers=["x"]), "signature.manifest.descriptor"),
        (document(layers=[{"mediaType": CLASSIC}]), "signature.manifest.descriptor"),
        (document(layers=[{**LAYER, "digest": 1}]), "signature.manifest.descriptor"),
        (document(layers=[{**LAYER, "size": -1}]), "signature.manifest.size"),
        (document(layers=[{**LAYER, "size": 1 << 20}]), "signature.manifest.size"),
        (document(layers=[{**LAYER, "digest": "sha1:x"}]), "signature.manifest.digest"),
        (document(layers=[{**LAYER, "annotations": ["x"]}]), "signature.manifest.annotations"),
        (document(layers=[{**LAYER, "annotations": {"a": 1}}]), "signature.manifest.annotations"),
        (
            document(layers=[{**LAYER, "annotations": {"a": "b" * 65_537}}]),
            "signature.manifest.annotations",
        ),
    ],
)
def test_manifest_with_a_mistake_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_signature_manifest(data)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (document(manifests={}), "signature.manifest.array"),
        (document(manifests=[ARTIFACT] * 33), "signature.manifest.count"),
        (document(manifests=[], mediaType=CLASSIC), "signature.manifest.media_type"),
        (document(manifests=[{**ARTIFACT, "size": "1"}]), "signature.manifest.size"),
    ],
)
def test_list_with_a_mistake_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_referrers(data)
    assert refused.value.reason == reason
