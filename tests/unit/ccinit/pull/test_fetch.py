import errno
import os
from pathlib import Path
from typing import TypeVar

import pytest

from ccinit.errors import CcinitError, ChildError
from ccinit.formats.oci_reference import parse_image_reference
from ccinit.formats.pod_manifest import ImageEncryption
from ccinit.pull.fetch import fetch_image
from ccinit.pull.messages import (
    AcceptedImage,
    Downloaded,
    FetchBegun,
    FoundSignatures,
    PulledBlobs,
    PullLimits,
    PullRequest,
)
from ccinit.pull.registry import Registry
from ccinit.secret import Secret
from tests.fakes.encrypted_image import make_encrypted_image, seal
from tests.fakes.registry import (
    FAST,
    FakeHttp,
    FakeImage,
    Waits,
    broken_after,
    make_image,
    make_index,
    reply,
)

TARS = [b"first tar" * 1000, b"second tar" * 1000]
IMAGE = make_image(TARS)
LAYERS = IMAGE.blob_names()


T = TypeVar("T")


class Channel:
    def __init__(self, workspace: Path) -> None:
        self.workspace = str(workspace)
        self.notices: list[object] = []
        self.questions: list[object] = []
        self.answer: object = AcceptedImage(documents=(), reasons=())

    def ask(self, question: object, answer: type[T]) -> T:
        self.questions.append(question)
        if isinstance(self.answer, Exception):
            raise self.answer
        assert isinstance(self.answer, answer)
        return self.answer

    def notify(self, notice: object) -> None:
        self.notices.append(notice)

    def read_secret(self, name: str) -> Secret:
        raise AssertionError(f"{name}: this source has no key")


class Harness:
    def __init__(self, workspace: Path, image: FakeImage = IMAGE) -> None:
        self.http = FakeHttp(image)
        self.channel = Channel(workspace)
        self.image = image
        self.encryption = ImageEncryption.ALLOWED

    def fetch(self, tar_bytes: int = 1 << 20, *, with_signatures: bool = False) -> PulledBlobs:
        reference = parse_image_reference(f"r.example/a@{self.image.digest}")
        request = PullRequest(
            reference=reference.text,
            ca_pem="",
            auth=b"",
            limits=PullLimits(tar_bytes=tar_bytes, total_seconds=60),
            encryption=self.encryption,
            with_signatures=with_signatures,
        )
        registry = Registry(self.http, reference, None, FAST, Waits())
        return fetch_image(registry, reference.digest, request, self.channel)

    def refusal(self, tar_bytes: int = 1 << 20) -> str:
        with pytest.raises(CcinitError) as refused:
            self.fetch(tar_bytes)
        assert list(Path(self.channel.workspace).iterdir()) == []
        return refused.value.reason


def test_image_is_fetched_into_one_tar_for_each_layer(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    blobs = harness.fetch()
    assert blobs.documents == (IMAGE.manifest,)
    assert blobs.config == IMAGE.config
    assert blobs.files == ("layer-0.tar", "layer-1.tar")
    assert [(tmp_path / name).read_bytes() for name in blobs.files] == TARS
    assert blobs.downloaded_bytes == sum(len(IMAGE.blobs[name]) for name in LAYERS)
    assert harness.channel.notices[0] == FetchBegun(layers=2, layer_bytes=blobs.downloaded_bytes)
    assert harness.channel.notices[-1] == Downloaded(layer_bytes=blobs.downloaded_bytes)


def test_image_behind_an_index_is_fetched_with_both_documents(tmp_path: Path) -> None:
    index = make_index(IMAGE, platforms=[("linux", "amd64")])
    pinned = FakeImage(index, IMAGE.config, IMAGE.blobs, "application/vnd.oci.image.index.v1+json")
    harness = Harness(tmp_path, pinned)
    harness.http.script(IMAGE.digest, reply(200, IMAGE.manifest, content_type=IMAGE.content_type))
    assert harness.fetch().documents == (index, IMAGE.manifest)


@pytest.mark.parametrize("reason", ["net.truncated", "net.range"])
def test_layer_that_breaks_once_is_whole(tmp_path: Path, reason: str) -> None:
    harness = Harness(tmp_path)
    harness.http.script(LAYERS[1], broken_after(IMAGE.blobs[LAYERS[1]][:30], reason))
    harness.fetch()
    assert (tmp_path / "layer-1.tar").read_bytes() == TARS[1]


def test_encrypted_layer_is_left_as_it_is(tmp_path: Path) -> None:
    sealed = seal(TARS[1])
    image = make_encrypted_image([IMAGE.blobs[LAYERS[0]], sealed], TARS)
    assert Harness(tmp_path, image).fetch().files == ("layer-0.tar", "layer-1.encrypted")
    assert (tmp_path / "layer-1.encrypted").read_bytes() == sealed.blob


def test_r59_image_is_refused_before_any_layer_is_fetched(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.encryption = ImageEncryption.REQUIRED
    assert harness.refusal() == "pull.encryption"
    assert not any(LAYERS[0] in url for url, _headers in harness.http.seen)


def test_signatures_are_put_before_pid_1_before_anything_is_fetched(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.fetch(with_signatures=True)
    assert harness.channel.questions == [FoundSignatures(documents=(IMAGE.manifest,), manifests=())]
    refusing = Harness(tmp_path / "refused")
    (tmp_path / "refused").mkdir()
    refusing.channel.answer = ChildError("child.orphaned", "PID 1 hangs up")
    with pytest.raises(ChildError):
        refusing.fetch(with_signatures=True)
    assert not any("/blobs/" in url for url, _headers in refusing.http.seen)
    without = Harness(tmp_path / "without")
    (tmp_path / "without").mkdir()
    without.fetch()
    assert without.channel.questions == []


def flipped(data: bytes) -> bytes:
    return bytes([data[0]]) + bytes([data[1]]) + data[2:-1] + bytes([data[-1] ^ 1])


def test_layer_that_differs_is_refused_and_removed(tmp_path: Path) -> None:
    wrong = dict(IMAGE.blobs)
    wrong[LAYERS[1]] = flipped(wrong[LAYERS[1]])
    lying = FakeImage(IMAGE.manifest, IMAGE.config, wrong)
    assert Harness(tmp_path, lying).refusal() in {"pull.gzip", "pull.blob_digest"}
    Harness(tmp_path).fetch()


@pytest.mark.parametrize(("change", "reason"), [(b"x", "pull.blob_size"), (None, "pull.blob_size")])
def test_layer_of_another_length_is_refused(
    tmp_path: Path, change: bytes | None, reason: str
) -> None:
    blob = IMAGE.blobs[LAYERS[0]]
    other = blob + change if change else blob[:-1]
    lying = FakeImage(IMAGE.manifest, IMAGE.config, {**IMAGE.blobs, LAYERS[0]: other})
    assert Harness(tmp_path, lying).refusal() == reason


def test_config_that_is_longer_is_refused_before_any_layer(tmp_path: Path) -> None:
    name = next(name for name in IMAGE.blobs if name not in LAYERS)
    lying = FakeImage(IMAGE.manifest, IMAGE.config, {**IMAGE.blobs, name: IMAGE.config + b" "})
    harness = Harness(tmp_path, lying)
    assert harness.refusal() == "pull.blob_size"
    assert not any(LAYERS[0] in url for url, _headers in harness.http.seen)


def test_tars_beyond_the_cap_of_the_image_are_refused(tmp_path: Path) -> None:
    total = sum(map(len, TARS))
    assert Harness(tmp_path).refusal(total - 1) == "pull.layer_bytes"
    Harness(tmp_path).fetch(total)


def test_r46_full_disk_has_a_reason_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        assert Harness(tmp_path).refusal() == "pull.enospc"
    Harness(tmp_path).fetch()


def test_file_that_is_there_already_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "layer-0.tar").symlink_to("/etc/passwd")
    with pytest.raises(CcinitError) as refused:
        Harness(tmp_path).fetch()
    assert refused.value.reason == "kernel.open"


def test_request_does_not_show_its_credentials() -> None:
    limits = PullLimits(tar_bytes=1, total_seconds=1)
    request = PullRequest(
        reference="r",
        ca_pem="",
        auth=b"password",
        limits=limits,
        encryption=ImageEncryption.ALLOWED,
    )
    assert "password" not in repr(request)
