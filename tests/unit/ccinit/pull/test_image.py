"""The pull of an image from what is asked to mounts, by children that are played here."""

import gzip
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Self

import pytest

from ccinit.errors import (
    CcinitError,
    ChildError,
    FormatError,
    KernelError,
    PeerError,
    VerificationError,
)
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.kernel.event_loop import Event, EventLoop, TaskGroup, sleep
from ccinit.pull.erofs.index import IndexRequest
from ccinit.pull.image import PulledImage, pull_image, unmount_layers
from ccinit.pull.layer_store import LayerStore
from ccinit.pull.layers.stream import NEIGHBOUR_ENDED
from ccinit.pull.messages.fetch import FoundImage, SignaturePolicy
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.tree import TreeDigests
from ccinit.values import replace
from tests.fakes.images.encrypted_image import make_encrypted_image, seal
from tests.fakes.images.layer_pipes import LayerPipe
from tests.fakes.images.tars import Entry, make_tar
from tests.unit.ccinit.pull.image_children import (
    FOUND,
    IMAGE,
    POLICY,
    REQUEST,
    TARS,
    Children,
    Mounts,
    children_of,
)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> Mounts:
    mounts = Mounts()
    monkeypatch.setattr("ccinit.pull.image.mount", mounts.mount)
    monkeypatch.setattr("ccinit.pull.image.detach", mounts.detach)
    return mounts


def run(coroutine: Coroutine[object, None, PulledImage]) -> PulledImage:
    return EventLoop().run(coroutine)


def refusal(children: Children, policy: SignaturePolicy | None = None) -> str:
    with pytest.raises(CcinitError) as refused:
        run(pull_image(REQUEST, str(children.directory), children, LayerStore(), policy))
    return refused.value.reason


@pytest.fixture
def children(tmp_path: Path) -> Children:
    (tmp_path / "image").mkdir()
    return Children(tmp_path / "image")


def test_image_goes_through_every_child_and_is_mounted(children: Children, mounts: Mounts) -> None:
    image = run(pull_image(REQUEST, str(children.directory), children, LayerStore()))
    assert children.order == ["fetch", "inspect", "unpack", "verify", "index", "walk"]
    assert [layer.mount_point for layer in image.layers] == mounts.mounted
    source, target, options = mounts.calls[1]
    assert source == str(children.directory / "layer-1.erofs")
    assert Path(source).stat().st_size == 4096  # a whole page, for newer kernels
    assert target == str(children.directory / "layer-1")
    assert options == f"device={children.directory}/layer-1.tar"
    assert image.file_bytes == 3
    assert image.manifest == sha256_digest(IMAGE.manifest)


def test_compressed_image_is_mounted_without_its_tars(children: Children, mounts: Mounts) -> None:
    children.form = LayerForm.COMPRESSED
    store = LayerStore(LayerForm.COMPRESSED)
    image = run(pull_image(REQUEST, str(children.directory), children, store))
    compressed = ["compress layer-0.tar", "compress layer-1.tar"]
    assert children.order == ["fetch", "inspect", "unpack", "verify", *compressed, "walk"]
    source, target, options = mounts.calls[1]
    assert (source, target, options) == (
        str(children.directory / "layer-1.erofs"),
        str(children.directory / "layer-1"),
        "",
    )
    assert not list(children.directory.glob("layer-?.tar"))
    assert image.file_bytes == 3


def begin_again(children: Children, form: LayerForm) -> None:
    """Have the same children pull once more, into another directory."""
    children.directory = children.directory / "again"
    children.directory.mkdir()
    children.workspace = str(children.directory)
    children.form, children.verified, children.has_sent = form, None, Event()


def test_compressed_layers_are_listed_by_what_is_in_them(
    children: Children, mounts: Mounts
) -> None:
    run(pull_image(REQUEST, str(children.directory), children, LayerStore()))
    by_place = children.verified
    begin_again(children, LayerForm.COMPRESSED)
    run(pull_image(REQUEST, children.workspace, children, LayerStore(LayerForm.COMPRESSED)))
    assert by_place is not None
    assert children.verified is not None
    assert by_place.layers != children.verified.layers
    assert [one.records for one in by_place.layers] == [
        one.records for one in children.verified.layers
    ]


def test_encrypted_layer_is_decrypted_before_it_is_verified(
    children: Children, mounts: Mounts
) -> None:
    sealed = seal(TARS[1])
    image = make_encrypted_image([gzip.compress(TARS[0]), sealed], TARS)
    children.file = LayerPipe([gzip.compress(TARS[0]), sealed.blob])
    request = children.find(image)
    pulled = run(pull_image(request, str(children.directory), children, LayerStore()))
    assert children.order[:4] == ["fetch", "inspect", "keys", "decrypt"]
    assert sorted(children.order[4:6]) == ["unpack", "verify"]
    assert children.order[6:] == ["index", "walk"]
    assert Path(pulled.layers[1].tar).read_bytes()[: len(TARS[1]) - 1024] == TARS[1][:-1024]
    assert children.keys is not None
    assert len(children.keys) == 0  # wiped


def test_policy_is_asked_before_the_image_is_taken(children: Children, mounts: Mounts) -> None:
    children.asks = (IMAGE.manifest,)
    run(pull_image(REQUEST, str(children.directory), children, LayerStore(), POLICY))
    assert children.order[:4] == ["fetch", "judge", "inspect", "unpack"]


@pytest.mark.parametrize("asks", [None, (b"another manifest",), (IMAGE.manifest, b"more")])
def test_image_that_the_policy_has_not_accepted_is_not_taken(
    children: Children, mounts: Mounts, asks: tuple[bytes, ...] | None
) -> None:
    children.asks = asks
    assert refusal(children, POLICY) == "signature.documents"
    assert "verify" not in children.order


def test_question_without_a_policy_is_a_childs_fault(children: Children, mounts: Mounts) -> None:
    children.asks = (IMAGE.manifest,)
    assert refusal(children) == "child.protocol"


def test_files_are_sealed_before_they_are_mounted(children: Children, mounts: Mounts) -> None:
    image = run(pull_image(REQUEST, str(children.directory), children, LayerStore()))
    modes = {
        Path(path).stat().st_mode & 0o777
        for layer in image.layers
        for path in (layer.tar, layer.index)
    }
    assert modes == {0o400}


def test_tree_that_is_not_the_tars_is_refused_and_unmounted(
    children: Children, mounts: Mounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def walk(_roots: tuple[str, ...], _form: LayerForm) -> TreeDigests:
        assert children.verified is not None
        first, second = (layer.listing for layer in children.verified.layers)
        return TreeDigests(listings=(first, (second[0], sha256_digest(b"another"))))

    with monkeypatch.context() as patch:
        patch.setattr(children, "walk", walk)
        assert refusal(children) == "pull.tree"
    assert mounts.mounted == []


def test_mount_that_fails_leaves_none(children: Children, mounts: Mounts) -> None:
    mounts.fail_at = "layer-1"
    assert refusal(children) == "kernel.mount"
    assert mounts.mounted == []


def test_layer_that_cannot_be_unmounted_keeps_no_other(
    children: Children, mounts: Mounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(target: str) -> None:
        mounts.detach(target)
        if target.endswith("layer-1"):
            raise KernelError(22, "umount2", target)

    image = run(pull_image(REQUEST, str(children.directory), children, LayerStore()))
    monkeypatch.setattr("ccinit.pull.image.detach", refuse)
    with pytest.raises(KernelError):
        unmount_layers(image.own)
    assert mounts.mounted == []


def test_child_that_answers_for_fewer_layers_is_at_fault(
    children: Children, mounts: Mounts
) -> None:
    run(pull_image(REQUEST, str(children.directory), children, LayerStore()))
    honest = children.verified
    assert honest is not None
    begin_again(children, LayerForm.INDEX)
    children.verified = replace(honest, layers=honest.layers[:1])
    assert refusal(children) == "child.protocol"
    assert children.order[-1] == "verify"


OVER = [make_tar(Entry("tmp", None, mode=0o1777), Entry("a/b", b"x")), make_tar(Entry("tmp/c"))]


@pytest.mark.parametrize("form", LayerForm)
def test_layers_that_two_images_share_are_made_once(
    tmp_path: Path, mounts: Mounts, form: LayerForm
) -> None:
    """At the same time: the second one waits, and its own layer stands on the first one's."""
    lower, lower_request = children_of(tmp_path, "lower", OVER[:1])
    upper, upper_request = children_of(tmp_path, "upper", OVER)
    alone, alone_request = children_of(tmp_path, "alone", OVER)
    again, again_request = children_of(tmp_path, "again", OVER[:1])
    store = LayerStore(form)
    for pulling in (lower, upper, alone, again):
        pulling.form = form

    async def pull_both() -> tuple[PulledImage, PulledImage, PulledImage]:
        async with TaskGroup() as group:
            tasks = [
                group.start(pull_image(request, children.workspace, children, store), "pull")
                for children, request in ((lower, lower_request), (upper, upper_request))
            ]
        third = await pull_image(again_request, again.workspace, again, store)
        return await tasks[0].join(), await tasks[1].join(), third

    one, two, three = EventLoop().run(pull_both())
    expected = run(pull_image(alone_request, alone.workspace, alone, LayerStore(form)))
    assert (lower.firsts, upper.firsts, again.firsts) == ([0], [1], [1])
    assert two.layers[0] == one.layers[0] == three.layers[0]
    assert (two.own, three.own) == (two.layers[1:], ())
    assert [layer.mount_point for layer in one.own + two.own] == mounts.mounted[:2]
    assert two.file_bytes == expected.file_bytes == 1
    # tmp is not described by the upper layer: what it looks like comes from the one below.
    assert upper.verified is not None
    assert alone.verified is not None
    assert upper.verified.layers == alone.verified.layers[1:]
    # An image's records are counted over all of its layers, whoever has verified them.
    assert (alone.kept_records, upper.kept_records) == (0, alone.verified.layers[0].records)
    assert again.order == ["fetch", "inspect", "unpack", "verify", "walk"]


def test_layers_of_an_encrypted_image_are_its_own(children: Children, mounts: Mounts) -> None:
    sealed = seal(TARS[1])
    image = make_encrypted_image([gzip.compress(TARS[0]), sealed], TARS)
    store = LayerStore()
    run(pull_image(REQUEST, str(children.directory), children, store))
    (children.directory / "encrypted").mkdir()
    other = Children(children.directory / "encrypted")
    other.file = LayerPipe([gzip.compress(TARS[0]), sealed.blob])
    request = other.find(image)
    pulled = run(pull_image(request, other.workspace, other, store))
    assert other.firsts == [0]
    assert pulled.own == pulled.layers


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("mkfs.erofs: exit code 1: <E> no tar", "pull.index"),
        ("mkfs.erofs: complains: <E> failed to write: No space left on device", "pull.enospc"),
    ],
)
def test_index_that_fails_ends_the_pull(
    children: Children, mounts: Mounts, monkeypatch: pytest.MonkeyPatch, said: str, reason: str
) -> None:
    async def fail(_request: IndexRequest) -> None:
        raise ChildError("pull.index", said)

    monkeypatch.setattr(children, "index", fail)
    assert refusal(children) == reason
    assert mounts.calls == []


@pytest.mark.parametrize("found", [(), (FOUND, FOUND)])
def test_child_that_finds_no_image_or_two_is_at_fault(
    children: Children, mounts: Mounts, found: tuple[FoundImage, ...]
) -> None:
    children.found = found
    assert refusal(children) == "child.protocol"
    assert "index" not in children.order
    assert mounts.calls == []


def play_failures(children: Children, failures: dict[str, CcinitError]) -> str:
    """Let these children fail, the first one first; return what the pull says."""

    def fails(name: str, error: CcinitError) -> Callable[..., Awaitable[object]]:
        played = getattr(children, name)

        async def fail(*arguments: object) -> object:
            if name == "fetch":
                await played(*arguments)
            await sleep(0.01 * list(failures).index(name))
            raise error

        return fail

    for name, error in failures.items():
        setattr(children, name, fails(name, error))
    return refusal(children)


ALONE = ChildError(NEIGHBOUR_ENDED, "")
WRONG = VerificationError("pull.diff_id", "")
CUT = PeerError("net.truncated", "")
BOMB = FormatError("pull.gzip", "")


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ({"fetch": CUT, "unpack": ALONE, "verify": ALONE}, "net.truncated"),
        ({"verify": ALONE, "unpack": ALONE, "fetch": CUT}, "net.truncated"),
        ({"unpack": BOMB, "verify": ALONE, "fetch": ALONE}, "pull.gzip"),
        ({"verify": ALONE, "fetch": ALONE, "unpack": BOMB}, "pull.gzip"),
        ({"verify": WRONG, "unpack": ALONE, "fetch": ALONE}, "pull.diff_id"),
        ({"unpack": ALONE, "fetch": ALONE, "verify": WRONG}, "pull.diff_id"),
        ({"unpack": ALONE, "verify": ALONE}, "pull.neighbour"),
    ],
)
def test_child_that_has_the_reason_is_heard_whoever_ends_first(
    children: Children, mounts: Mounts, failures: dict[str, CcinitError], told: str
) -> None:
    assert play_failures(children, failures) == told
    assert mounts.calls == []


def test_file_that_cannot_back_erofs_is_put_on_a_loop_device(
    children: Children, mounts: Mounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_devices(source: str, target: str, kind: str, flags: int, options: str) -> None:
        if not source.startswith("/dev/"):
            raise KernelError(15, "mount", target)  # ENOTBLK
        mounts.mount(source, target, kind, flags, options)

    class Loop:
        def __init__(self, path: str) -> None:
            self.node = f"/dev/loop-{Path(path).name}"

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_details: object) -> None:
            """Closed."""

    monkeypatch.setattr("ccinit.pull.image.mount", only_devices)
    monkeypatch.setattr("ccinit.pull.image.open_loop", Loop)
    run(pull_image(REQUEST, str(children.directory), children, LayerStore()))
    source, _target, options = mounts.calls[0]
    assert (source, options) == ("/dev/loop-layer-0.erofs", "device=/dev/loop-layer-0.tar")
