"""What an image consists of is read from documents that are what was pinned."""

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.encoding import wire
from ccinit.formats.encoding.digest import parse_digest, sha256_digest
from ccinit.formats.oci.compression import Compression
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.pull.inspect import inspect_job
from ccinit.pull.messages.layers import InspectedImage, InspectRequest
from ccinit.values import replace
from tests.fakes.images.encrypted_image import KID, make_encrypted_image, seal
from tests.fakes.images.registry import FakeImage, make_image

TARS = [b"one", b"two"]
SEALED = [seal(tar) for tar in TARS]
ALL = make_encrypted_image(SEALED, TARS)
MIXED = make_encrypted_image([b"packed", SEALED[1]], TARS)
NONE = make_image(TARS)


def request_for(image: FakeImage, encryption: ImageEncryption) -> InspectRequest:
    return InspectRequest(
        pinned=parse_digest(image.digest),
        documents=(image.manifest,),
        config=image.config,
        encryption=encryption,
    )


def test_encrypted_layers_are_listed_with_their_keys() -> None:
    request = request_for(MIXED, ImageEncryption.ALLOWED)
    found = inspect_job(wire.decode(InspectRequest, wire.encode(request)), None)
    assert wire.decode(InspectedImage, wire.encode(found)) == found
    assert found.layers == (Compression.GZIP,) * 2
    assert found.diff_ids == tuple(sha256_digest(tar) for tar in TARS)
    (layer,) = found.encrypted
    assert (layer.position, layer.compression) == (1, Compression.GZIP)
    assert [str(wrap.kek) for wrap in layer.wraps] == [KID]


@pytest.mark.parametrize(
    ("image", "demanded", "is_taken"),
    [
        (ALL, ImageEncryption.REQUIRED, True),
        (MIXED, ImageEncryption.REQUIRED, False),
        (NONE, ImageEncryption.REQUIRED, False),
        (ALL, ImageEncryption.ALLOWED, True),
        (NONE, ImageEncryption.ALLOWED, True),
        (ALL, ImageEncryption.NONE, False),
        (MIXED, ImageEncryption.NONE, False),
        (NONE, ImageEncryption.NONE, True),
    ],
)
def test_r59_layers_are_encrypted_as_the_pod_manifest_demands(
    image: FakeImage, demanded: ImageEncryption, *, is_taken: bool
) -> None:
    request = request_for(image, demanded)
    if is_taken:
        assert len(inspect_job(request, None).layers) == 2
        return
    with pytest.raises(CcinitError) as refused:
        inspect_job(request, None)
    assert refused.value.reason == "pull.encryption"


def test_documents_that_were_not_pinned_are_refused() -> None:
    request = request_for(ALL, ImageEncryption.REQUIRED)
    with pytest.raises(CcinitError) as refused:
        inspect_job(replace(request, pinned=sha256_digest(b"")), None)
    assert refused.value.reason == "pull.manifest_digest"
    with pytest.raises(CcinitError) as refused:
        inspect_job(replace(request, config=NONE.config + b" "), None)
    assert refused.value.reason == "pull.blob_size"
