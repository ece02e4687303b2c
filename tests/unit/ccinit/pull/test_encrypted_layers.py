"""The steps between the children of an encrypted image, with the real jobs in this process."""

from collections.abc import Coroutine
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.layer_encryption import LayerKey
from ccinit.formats.pod_manifest import ImageEncryption
from ccinit.pull.decrypt import decrypt_job
from ccinit.pull.encrypted_layers import decrypt_layers
from ccinit.pull.inspect import inspect_job
from ccinit.pull.messages import (
    DecryptReply,
    DecryptRequest,
    InspectedImage,
    InspectRequest,
    PulledBlobs,
    PullLimits,
    PullRequest,
)
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.encrypted_image import KEY, NONCE, make_encrypted_image, seal
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
BLOBS = PulledBlobs(
    documents=(IMAGE.manifest,),
    config=IMAGE.config,
    files=("layer-0.tar", "layer-1.encrypted"),
    downloaded_bytes=0,
)


class Children:
    """Play the children: the jobs themselves, on one directory."""

    def __init__(self, directory: Path) -> None:
        self.workspace = str(directory)
        self.keys = (LayerKey(key=KEY, nonce=NONCE),)
        self.piped: Secret | None = None
        (directory / "layer-0.tar").write_bytes(TARS[0])
        (directory / "layer-1.encrypted").write_bytes(SEALED.blob)

    async def inspect(self, request: InspectRequest) -> InspectedImage:
        return inspect_job(request, self)

    async def open_keys(self, image: InspectedImage) -> tuple[LayerKey, ...]:
        assert [layer.position for layer in image.encrypted] == [1]
        return self.keys

    async def decrypt(self, request: DecryptRequest, keys: Secret) -> DecryptReply:
        assert request.tars == ("layer-0.tar",)
        self.piped = keys
        return decrypt_job(request, self)

    def read_secret(self, _name: str) -> Secret:
        assert self.piped is not None
        return Secret(self.piped.reveal())


def finish(coroutine: Coroutine[object, None, None]) -> None:
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_layers_become_tars_and_the_keys_are_wiped(tmp_path: Path) -> None:
    children = Children(tmp_path)
    finish(decrypt_layers(REQUEST, BLOBS, children))
    assert {path.name for path in tmp_path.iterdir()} == {"layer-0.tar", "layer-1.tar"}
    assert (tmp_path / "layer-1.tar").read_bytes() == TARS[1]
    assert children.piped is not None
    assert len(children.piped) == 0


@pytest.mark.parametrize(
    "files",
    [
        ("layer-0.encrypted", "layer-1.tar"),
        ("layer-0.encrypted", "layer-1.encrypted"),
        ("layer-0.tar",),
    ],
)
def test_files_that_are_not_those_of_the_manifest_are_refused(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    with pytest.raises(CcinitError) as refused:
        finish(decrypt_layers(REQUEST, replace(BLOBS, files=files), Children(tmp_path)))
    assert refused.value.reason == "pull.layers"
