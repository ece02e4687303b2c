"""The steps between the children of an encrypted image, with the real jobs in this process."""

import gzip
from collections.abc import Coroutine

import pytest

from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.oci.layer_encryption import ImageEncryption, LayerKey
from ccinit.pull.encryption.decrypt import decrypt_job
from ccinit.pull.encryption.encrypted_layers import decrypt_layers
from ccinit.pull.inspect import inspect_job
from ccinit.pull.layers.stream import SINK, SOURCE
from ccinit.pull.messages.layers import DecryptReply, DecryptRequest, InspectedImage, InspectRequest
from ccinit.secret import Secret
from tests.fakes.images.encrypted_image import KEY, NONCE, make_encrypted_image, seal
from tests.fakes.images.layer_pipes import LayerPipe
from tests.fakes.images.tars import Entry, make_tar

TARS = [make_tar(Entry("a", b"x")), make_tar(Entry("b", b"yy"))]
SEALED = seal(TARS[1])
IMAGE = make_encrypted_image([b"packed", SEALED], TARS)
KEYS = (LayerKey(key=KEY, nonce=NONCE),)
REQUEST = InspectRequest(
    pinned=parse_digest(IMAGE.digest),
    documents=(IMAGE.manifest,),
    config=IMAGE.config,
    encryption=ImageEncryption.ALLOWED,
)


class Children:
    """Play the children: the jobs themselves, between two pipes."""

    def __init__(self) -> None:
        self.piped: Secret | None = None
        self.source, self.sink = LayerPipe([b"packed", SEALED.blob]), LayerPipe()
        self.fds = {SOURCE: self.source.fd, SINK: self.sink.fd}

    async def open_keys(self, _image: InspectedImage) -> tuple[LayerKey, ...]:
        raise AssertionError("they are open")

    async def decrypt(self, request: DecryptRequest, keys: Secret) -> DecryptReply:
        assert request.layers == 2
        assert [layer.position for layer in request.encrypted] == [1]
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
    finish(decrypt_layers(inspect_job(REQUEST, None), KEYS, children))
    packed, opened = children.sink.layers()
    assert packed == b"packed"
    assert gzip.decompress(opened) == TARS[1]
    assert children.piped is not None
    assert len(children.piped) == 0
