"""The steps between the children of an encrypted image, with the real jobs in this process."""

import gzip
from collections.abc import Coroutine

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.layer_encryption import LayerKey
from ccinit.formats.oci_image import Compression
from ccinit.formats.pod_manifest import ImageEncryption
from ccinit.pull.decrypt import decrypt_job
from ccinit.pull.encrypted_layers import decrypt_layers
from ccinit.pull.inspect import inspect_job
from ccinit.pull.messages import (
    SINK,
    SOURCE,
    DecryptReply,
    DecryptRequest,
    FoundImage,
    InspectedImage,
    InspectRequest,
    PullLimits,
    PullRequest,
)
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.encrypted_image import KEY, NONCE, make_encrypted_image, seal
from tests.fakes.layer_pipes import LayerPipe
from tests.fakes.tars import Entry, make_tar

TARS = [make_tar(Entry("a", b"x")), make_tar(Entry("b", b"yy"))]
SEALED = seal(TARS[1])
IMAGE = make_encrypted_image([b"packed", SEALED], TARS)
REQUEST = PullRequest(
    reference=f"r.example/a@{IMAGE.digest}",
    ca_pem="",
    auth=b"",
    limits=PullLimits(tar_bytes=1 << 20, total_seconds=60),
    encryption=ImageEncryption.ALLOWED,
)
FOUND = FoundImage(
    documents=(IMAGE.manifest,),
    config=IMAGE.config,
    layers=(Compression.GZIP, Compression.GZIP),
    is_encrypted=True,
)


class Children:
    """Play the children: the jobs themselves, between two pipes."""

    def __init__(self) -> None:
        self.keys = (LayerKey(key=KEY, nonce=NONCE),)
        self.piped: Secret | None = None
        self.source, self.sink = LayerPipe([b"packed", SEALED.blob]), LayerPipe()
        self.fds = {SOURCE: self.source.fd, SINK: self.sink.fd}

    async def inspect(self, request: InspectRequest) -> InspectedImage:
        return inspect_job(request, self)

    async def open_keys(self, image: InspectedImage) -> tuple[LayerKey, ...]:
        assert [layer.position for layer in image.encrypted] == [1]
        return self.keys

    async def decrypt(self, request: DecryptRequest, keys: Secret) -> DecryptReply:
        assert request.layers == 2
        self.piped = keys
        return decrypt_job(request, self)

    def read_secret(self, _name: str) -> Secret:
        assert self.piped is not None
        return Secret(self.piped.reveal())


def finish(coroutine: Coroutine[object, None, None]) -> None:
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_layers_are_decrypted_and_the_keys_are_wiped() -> None:
    children = Children()
    finish(decrypt_layers(REQUEST, FOUND, children))
    packed, opened = children.sink.layers()
    assert packed == b"packed"
    assert gzip.decompress(opened) == TARS[1]
    assert children.piped is not None
    assert len(children.piped) == 0


@pytest.mark.parametrize("layers", [(Compression.GZIP,), (Compression.GZIP, Compression.ZSTD), ()])
def test_layers_that_are_not_those_of_the_manifest_are_refused(
    layers: tuple[Compression, ...],
) -> None:
    with pytest.raises(CcinitError) as refused:
        finish(decrypt_layers(REQUEST, replace(FOUND, layers=layers), Children()))
    assert refused.value.reason == "pull.layers"
