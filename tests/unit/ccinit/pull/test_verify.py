from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats import wire
from ccinit.formats.digest import parse_digest, sha256_digest
from ccinit.formats.pod_manifest import ImageEncryption
from ccinit.pull.messages import LayersRequest, VerifiedLayers
from ccinit.pull.verify import layers_job
from ccinit.values import replace
from tests.fakes.registry import make_image
from tests.fakes.tars import Entry, make_tar

TARS = [
    make_tar(Entry("tmp", None, mode=0o1777), Entry("a", b"x")),
    make_tar(Entry("tmp/b", b"yy"), Entry(".wh.a")),
]
IMAGE = make_image(TARS)
NAMES = ("layer-0.tar", "layer-1.tar")
REQUEST = LayersRequest(
    pinned=parse_digest(IMAGE.digest),
    documents=(IMAGE.manifest,),
    config=IMAGE.config,
    tars=NAMES,
    encryption=ImageEncryption.ALLOWED,
)


class Channel:
    def __init__(self, workspace: Path, tars: list[bytes]) -> None:
        self.workspace = str(workspace)
        for name, tar in zip(NAMES, tars, strict=True):
            (workspace / name).write_bytes(tar)


def test_image_that_is_what_was_pinned_is_verified(tmp_path: Path) -> None:
    verified = layers_job(REQUEST, Channel(tmp_path, TARS))
    assert verified.manifest == sha256_digest(IMAGE.manifest)
    assert verified.config.cmd == ("/bin/true",)
    assert [layer.file_bytes for layer in verified.layers] == [1, 2]
    assert [layer.records for layer in verified.layers] == [3, 4]


def test_request_and_result_cross_the_boundary(tmp_path: Path) -> None:
    verified = layers_job(REQUEST, Channel(tmp_path, TARS))
    assert wire.decode(LayersRequest, wire.encode(REQUEST)) == REQUEST
    assert wire.decode(VerifiedLayers, wire.encode(verified)) == verified


def test_tar_that_was_changed_after_the_download_is_refused(tmp_path: Path) -> None:
    changed = [TARS[0], make_tar(Entry("tmp/evil"))]
    with pytest.raises(CcinitError) as refused:
        layers_job(REQUEST, Channel(tmp_path, changed))
    assert refused.value.reason == "pull.diff_id"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (replace(REQUEST, pinned=sha256_digest(b"")), "pull.manifest_digest"),
        (replace(REQUEST, documents=()), "pull.documents"),
        (replace(REQUEST, config=b"{}"), "pull.blob_size"),
        (replace(REQUEST, tars=NAMES[:1]), "pull.layers"),
        (replace(REQUEST, encryption=ImageEncryption.REQUIRED), "pull.encryption"),
        (replace(REQUEST, tars=("layer-0.tar", "other")), "kernel.open"),
    ],
)
def test_claim_of_the_registry_child_that_does_not_fit_is_refused(
    tmp_path: Path, request_: LayersRequest, reason: str
) -> None:
    with pytest.raises(CcinitError) as refused:
        layers_job(request_, Channel(tmp_path, TARS))
    assert refused.value.reason == reason


def test_tar_that_is_a_symlink_is_refused(tmp_path: Path) -> None:
    channel = Channel(tmp_path, TARS)
    (tmp_path / "layer-1.tar").rename(tmp_path / "elsewhere")
    (tmp_path / "layer-1.tar").symlink_to("elsewhere")
    with pytest.raises(CcinitError) as refused:
        layers_job(REQUEST, channel)
    assert refused.value.reason == "kernel.open"


def test_image_with_too_many_paths_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccinit.pull.verify.MAX_IMAGE_RECORDS", 6)
    with pytest.raises(CcinitError) as refused:
        layers_job(REQUEST, Channel(tmp_path, TARS))
    assert refused.value.reason == "tar.entries"
