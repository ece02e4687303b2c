from collections.abc import Callable
from typing import TypeVar

import pytest

from ccinit.errors import CcinitError, ChildError, PeerError
from ccinit.formats.encoding import wire
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.pull.layers.stream import LayerWriter
from ccinit.pull.messages.fetch import (
    AcceptedImage,
    Downloaded,
    FetchBegun,
    FoundImage,
    FoundSignatures,
    PulledBlobs,
    PullLimits,
    PullRequest,
    SendLayers,
)
from ccinit.pull.registry import fetch
from ccinit.pull.registry.client import Registry
from ccinit.pull.registry.fetch import fetch_image
from ccinit.secret import Secret
from tests.fakes.images.encrypted_image import make_encrypted_image, seal
from tests.fakes.images.layer_pipes import LayerPipe
from tests.fakes.images.registry import (
    FAST,
    FakeHttp,
    FakeImage,
    Waits,
    broken_after,
    descriptor,
    digest_of,
    join_image,
    make_image,
    make_index,
    reply,
)

TARS = [b"first tar" * 1000, b"second tar" * 1000]
IMAGE = make_image(TARS)
LAYERS = IMAGE.blob_names()


T = TypeVar("T")


class Channel:
    def __init__(self) -> None:
        self.pipe = LayerPipe()
        self.first = 0
        self.found: list[FoundImage] = []
        self.notices: list[object] = []
        self.questions: list[object] = []
        self.answer: object = AcceptedImage(documents=(), reasons=())

    def ask(self, question: object, answer: type[T]) -> T:
        self.questions.append(question)
        if isinstance(self.answer, Exception):
            raise self.answer
        assert isinstance(self.answer, answer)
        return self.answer

    def ask_for_fds(self, question: object, answer: type[T]) -> tuple[T, tuple[int, ...]]:
        assert isinstance(question, FoundImage)
        self.found.append(wire.decode(FoundImage, wire.encode(question)))
        value = SendLayers(first=self.first)
        assert isinstance(value, answer)
        return value, (self.pipe.fd,)

    def notify(self, notice: object) -> None:
        self.notices.append(notice)

    def read_secret(self, name: str) -> Secret:
        raise AssertionError(f"{name}: this source has no key")


class Harness:
    def __init__(self, image: FakeImage = IMAGE) -> None:
        self.http = FakeHttp(image)
        self.channel = Channel()
        self.image = image
        self.encryption = ImageEncryption.ALLOWED

    def fetch(self, *, with_signatures: bool = False) -> PulledBlobs:
        reference = parse_image_reference(f"r.example/a@{self.image.digest}")
        request = PullRequest(
            reference=reference.text,
            ca_pem="",
            limits=PullLimits(tar_bytes=1 << 20, total_seconds=60),
            encryption=self.encryption,
            with_signatures=with_signatures,
        )
        registry = Registry(self.http, reference, None, FAST, Waits())
        return fetch_image(registry, reference.digest, request, self.channel)

    def refusal(self) -> str:
        with pytest.raises(CcinitError) as refused:
            self.fetch()
        return refused.value.reason


def test_image_is_told_and_its_blobs_are_sent_as_they_are() -> None:
    harness = Harness()
    harness.fetch()
    assert harness.channel.found == [FoundImage(documents=(IMAGE.manifest,), config=IMAGE.config)]
    assert harness.channel.pipe.layers() == [IMAGE.blobs[name] for name in LAYERS]
    layer_bytes = sum(len(IMAGE.blobs[name]) for name in LAYERS)
    assert harness.channel.notices[0] == FetchBegun(layers=2, layer_bytes=layer_bytes)
    assert harness.channel.notices[-1] == Downloaded(layer_bytes=layer_bytes)


def test_image_behind_an_index_is_fetched_with_both_documents() -> None:
    index = make_index(IMAGE, platforms=[("linux", "amd64")])
    pinned = FakeImage(index, IMAGE.config, IMAGE.blobs, "application/vnd.oci.image.index.v1+json")
    harness = Harness(pinned)
    harness.http.script(IMAGE.digest, reply(200, IMAGE.manifest, content_type=IMAGE.content_type))
    harness.fetch()
    assert harness.channel.found[0].documents == (index, IMAGE.manifest)


def test_layer_is_never_fetched_from_where_its_descriptor_points() -> None:
    """CVE-2020-15157: whoever wrote the manifest would learn the registry's credentials."""
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    pointing = {**descriptor(kind, TARS[0]), "urls": ["https://elsewhere.example/layer"]}
    image = join_image([(pointing, TARS[0])], [digest_of(TARS[0])], {"Cmd": ["/x"]})
    there, gone = Harness(image), Harness(image)
    there.fetch()
    assert there.channel.pipe.layers() == [TARS[0]]
    gone.http.script(digest_of(TARS[0]), reply(404))
    assert gone.refusal() == "registry.not_found"
    asked = [url for url, _headers in (*there.http.seen, *gone.http.seen)]
    assert all(url.startswith("https://r.example/v2/a/") for url in asked)


@pytest.mark.parametrize("reason", ["net.truncated", "net.range"])
def test_layer_that_breaks_once_is_sent_once(reason: str) -> None:
    harness = Harness()
    harness.http.script(LAYERS[1], broken_after(IMAGE.blobs[LAYERS[1]][:30], reason))
    harness.fetch()
    assert harness.channel.pipe.layers()[1] == IMAGE.blobs[LAYERS[1]]


@pytest.mark.parametrize(
    ("writing", "receiving", "over", "reason"),
    [
        (40, 10, "net.deadline", "pull.slow"),
        (40, 10, "registry.deadline", "pull.slow"),
        (10, 40, "net.deadline", "net.deadline"),
        (10, 40, "registry.deadline", "registry.deadline"),
        (40, 10, "net.dns", "net.dns"),
    ],
)
def test_time_that_is_over_is_told_of_who_used_it_up(
    writing: int, receiving: int, over: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    write = LayerWriter.write

    def write_slowly(writer: LayerWriter, data: bytes) -> None:
        nonlocal now
        now += writing
        write(writer, data)

    def break_late(sink: Callable[[bytes], None], offset: int) -> None:
        nonlocal now
        sink(IMAGE.blobs[LAYERS[1]][offset:30])
        now += receiving
        raise PeerError(over, "r.example:443")

    monkeypatch.setattr(fetch, "boottime", lambda: now)
    monkeypatch.setattr(LayerWriter, "write", write_slowly)
    harness = Harness()
    harness.fetch()
    harness = Harness()
    harness.http.script(LAYERS[1], break_late)
    assert harness.refusal() == reason


def test_layer_that_is_another_when_it_is_begun_anew_is_refused() -> None:
    harness = Harness()
    blob = IMAGE.blobs[LAYERS[1]]
    harness.http.script(LAYERS[1], broken_after(blob[:29] + b"?", "net.range"))
    harness.fetch()  # the second answer is whole, so its digest is right; what was sent is not
    assert harness.channel.pipe.layers()[1] == blob[:29] + b"?" + blob[30:]


def test_layers_that_are_there_already_are_not_fetched() -> None:
    harness = Harness()
    harness.channel.first = 1
    harness.fetch()
    assert harness.channel.pipe.layers() == [IMAGE.blobs[LAYERS[1]]]
    assert not any(LAYERS[0] in url for url, _headers in harness.http.seen)
    size = len(IMAGE.blobs[LAYERS[1]])
    assert harness.channel.notices == [
        FetchBegun(layers=1, layer_bytes=size),
        Downloaded(layer_bytes=size),
    ]


def test_encrypted_image_is_sent_as_it_is() -> None:
    sealed = seal(TARS[1])
    image = make_encrypted_image([IMAGE.blobs[LAYERS[0]], sealed], TARS)
    harness = Harness(image)
    harness.fetch()
    assert harness.channel.pipe.layers() == [IMAGE.blobs[LAYERS[0]], sealed.blob]


def test_r59_image_is_refused_before_any_layer_is_fetched() -> None:
    harness = Harness()
    harness.encryption = ImageEncryption.REQUIRED
    assert harness.refusal() == "pull.encryption"
    assert not any(LAYERS[0] in url for url, _headers in harness.http.seen)


def test_signatures_are_put_before_pid_1_before_anything_is_fetched() -> None:
    harness = Harness()
    harness.fetch(with_signatures=True)
    assert harness.channel.questions == [FoundSignatures(documents=(IMAGE.manifest,), manifests=())]
    refusing = Harness()
    refusing.channel.answer = ChildError("child.orphaned", "PID 1 hangs up")
    with pytest.raises(ChildError):
        refusing.fetch(with_signatures=True)
    assert not any("/blobs/" in url for url, _headers in refusing.http.seen)
    assert refusing.channel.found == []
    without = Harness()
    without.fetch()
    assert without.channel.questions == []


def flipped(data: bytes) -> bytes:
    return bytes([data[0]]) + bytes([data[1]]) + data[2:-1] + bytes([data[-1] ^ 1])


def test_layer_that_differs_is_refused() -> None:
    wrong = dict(IMAGE.blobs)
    wrong[LAYERS[1]] = flipped(wrong[LAYERS[1]])
    lying = FakeImage(IMAGE.manifest, IMAGE.config, wrong)
    assert Harness(lying).refusal() == "pull.blob_digest"
    Harness().fetch()


@pytest.mark.parametrize(("change", "reason"), [(b"x", "pull.blob_size"), (None, "pull.blob_size")])
def test_layer_of_another_length_is_refused(change: bytes | None, reason: str) -> None:
    blob = IMAGE.blobs[LAYERS[0]]
    other = blob + change if change else blob[:-1]
    lying = FakeImage(IMAGE.manifest, IMAGE.config, {**IMAGE.blobs, LAYERS[0]: other})
    assert Harness(lying).refusal() == reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [(IMAGE.config + b" ", "pull.blob_size"), (flipped(IMAGE.config), "pull.blob_digest")],
)
def test_config_that_differs_is_refused_before_any_layer(config: bytes, reason: str) -> None:
    name = next(name for name in IMAGE.blobs if name not in LAYERS)
    lying = FakeImage(IMAGE.manifest, IMAGE.config, {**IMAGE.blobs, name: config})
    harness = Harness(lying)
    assert harness.refusal() == reason
    assert harness.channel.found == []
    assert not any(LAYERS[0] in url for url, _headers in harness.http.seen)
