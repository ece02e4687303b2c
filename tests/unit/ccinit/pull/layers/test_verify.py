import errno
import os
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.encoding import wire
from ccinit.formats.encoding.digest import parse_digest, sha256_digest
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.pull.layers.stream import SOURCE
from ccinit.pull.layers.verify import layers_job
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import InspectRequest, LayersRequest, VerifiedLayers
from ccinit.pull.messages.tars import KeptTar, OpenedTar, outline_file
from ccinit.pull.tar_files import TarFiles
from ccinit.values import replace
from tests.fakes.images.layer_pipes import append_tars, give_tar
from tests.fakes.images.registry import FakeImage, make_image
from tests.fakes.images.tars import Entry, make_tar

TARS = [
    make_tar(Entry("tmp", None, mode=0o1777), Entry("a", b"x")),
    make_tar(Entry("tmp/b", b"yy"), Entry(".wh.a")),
]
IMAGE = make_image(TARS)
NAMES = ("layer-0.tar", "layer-1.tar")


def request_for(image: FakeImage) -> LayersRequest:
    inspected = InspectRequest(
        pinned=parse_digest(image.digest),
        documents=(image.manifest,),
        config=image.config,
        encryption=ImageEncryption.ALLOWED,
    )
    return LayersRequest(image=inspected, tar_bytes=1 << 20)


REQUEST = request_for(IMAGE)


T = TypeVar("T")


class Channel:
    def __init__(
        self,
        workspace: Path,
        tars: list[bytes],
        first: int = 0,
        form: LayerForm = LayerForm.INDEX,
    ) -> None:
        self.files = TarFiles(str(workspace), range(first, len(TARS)), form)
        self.words = append_tars(self.files, tars, first)
        self.fds = {SOURCE: self.words.fd}
        self.asked: list[int] = []
        self.given: list[int] = []
        self.kept = [workspace / "kept"]
        self.answers = 1

    def ask_for_fds(self, question: object, answer: type[T]) -> tuple[T, tuple[int, ...]]:
        value = OpenedTar()
        assert isinstance(value, answer)
        if isinstance(question, KeptTar):
            self.asked.append(question.position)
            fds = tuple(os.open(path, os.O_RDONLY) for path in self.kept)
        else:
            fds = give_tar(self.files, question) * self.answers
        self.given += fds
        return value, fds


def test_image_that_is_what_was_pinned_is_verified(tmp_path: Path) -> None:
    verified = layers_job(REQUEST, Channel(tmp_path, TARS))
    assert verified.manifest == sha256_digest(IMAGE.manifest)
    assert verified.config.cmd == ("/bin/true",)
    assert [layer.file_bytes for layer in verified.layers] == [1, 2]
    assert [layer.records for layer in verified.layers] == [3, 4]
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)
    for name, tar in zip(NAMES, TARS, strict=True):
        assert (tmp_path / name).read_bytes().startswith(tar[:-1024])


def test_layer_that_is_there_already_is_stood_upon(tmp_path: Path) -> None:
    """Whole, the layers are verified in one go; then the upper one on what that left."""
    whole, upper = tmp_path / "whole", tmp_path / "upper"
    whole.mkdir()
    upper.mkdir()
    expected = layers_job(REQUEST, Channel(whole, TARS))
    channel = Channel(upper, TARS[1:], first=1)
    channel.kept = [whole / NAMES[0]]
    verified = layers_job(replace(REQUEST, kept=1), channel)
    assert verified == replace(expected, layers=expected.layers[1:])
    assert channel.asked == [0]
    assert (upper / NAMES[1]).read_bytes() == (whole / NAMES[1]).read_bytes()
    nothing = Channel(upper, [])
    assert layers_job(replace(REQUEST, kept=2), nothing).layers == ()
    assert nothing.asked == []


def test_large_file_of_a_layer_that_is_there_is_leapt_over(tmp_path: Path) -> None:
    tars = [make_tar(Entry("big", b"x" * 100_000), Entry("tmp", None, mode=0o1777)), TARS[1]]
    request = request_for(make_image(tars))
    whole, upper = tmp_path / "whole", tmp_path / "upper"
    whole.mkdir()
    upper.mkdir()
    expected = layers_job(request, Channel(whole, tars))
    channel = Channel(upper, tars[1:], first=1)
    channel.kept = [whole / NAMES[0]]
    assert layers_job(replace(request, kept=1), channel).layers == expected.layers[1:]


def test_records_of_layers_that_are_there_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccinit.pull.layers.verify.MAX_IMAGE_RECORDS", 10)
    assert refusal(tmp_path, TARS, replace(REQUEST, kept_records=4)) == "tar.entries"
    layers_job(replace(REQUEST, kept_records=3), Channel(tmp_path, TARS))


def test_request_and_result_cross_the_boundary(tmp_path: Path) -> None:
    verified = layers_job(REQUEST, Channel(tmp_path, TARS))
    assert wire.decode(LayersRequest, wire.encode(REQUEST)) == REQUEST
    assert wire.decode(VerifiedLayers, wire.encode(verified)) == verified


def refusal(directory: Path, tars: list[bytes], request: LayersRequest = REQUEST) -> str:
    with TemporaryDirectory(dir=directory) as own, pytest.raises(CcinitError) as refused:
        layers_job(request, Channel(Path(own), tars))
    return refused.value.reason


@pytest.mark.parametrize(
    "other", [make_tar(Entry("tmp/evil")), b"no tar at all" * 100, TARS[1] + b"\0", b""]
)
def test_tar_that_is_another_one_is_refused_for_that_whatever_it_says(
    tmp_path: Path, other: bytes
) -> None:
    assert refusal(tmp_path, [TARS[0], other]) == "pull.diff_id"


def test_right_tar_that_breaks_a_rule_is_refused_for_that(tmp_path: Path) -> None:
    tars = [TARS[0], make_tar(Entry("a", kind=b"2", link="/etc"), Entry("a/passwd"))]
    request = request_for(make_image(tars))
    assert refusal(tmp_path, tars, request) == "tar.parent"


def test_tars_beyond_the_cap_of_the_image_are_refused(tmp_path: Path) -> None:
    short = replace(REQUEST, tar_bytes=sum(map(len, TARS)) - 1)
    assert refusal(tmp_path, TARS, short) == "pull.layer_bytes"
    implied = 3 * 512  # directories: both roots, and tmp of the second
    enough = replace(REQUEST, tar_bytes=sum(map(len, TARS)) + implied)
    layers_job(enough, Channel(tmp_path, TARS))


def test_directories_that_a_small_layer_implies_count_against_the_cap(tmp_path: Path) -> None:
    """Each of them is an entry of the tar that is indexed, with what lies below as its model."""
    model = Entry("d", None, pax=(("SCHILY.xattr.user.a", b"x" * 10_000),))
    tars = [make_tar(model), make_tar(Entry("d/e/f", b"x"))]
    request = request_for(make_image(tars))
    whole = tmp_path / "whole"
    whole.mkdir()
    layers_job(request, Channel(whole, tars))
    sizes = [(whole / name).stat().st_size for name in NAMES]
    assert sizes[1] > len(tars[1]) + 10_000
    needed = max(len(tars[0]), sizes[0]) + sizes[1]
    for name in ("short", "enough"):
        (tmp_path / name).mkdir()
    assert refusal(tmp_path / "short", tars, replace(request, tar_bytes=needed - 1)) == (
        "pull.layer_bytes"
    )
    layers_job(replace(request, tar_bytes=needed), Channel(tmp_path / "enough", tars))


def test_tar_is_cut_off_at_the_cap_and_not_first_read_to_its_end(tmp_path: Path) -> None:
    """It has the wrong digest, too, which would show at its end."""
    cap = REQUEST.tar_bytes
    assert refusal(tmp_path, [b"x" * (cap + 1)]) == "pull.layer_bytes"
    assert refusal(tmp_path, [b"x" * cap]) == "pull.diff_id"


@pytest.mark.parametrize("is_good", [True, False])
def test_files_are_closed_whatever_is_in_them(tmp_path: Path, *, is_good: bool) -> None:
    channel = Channel(tmp_path, TARS if is_good else [TARS[0], b"x"])
    with nullcontext() if is_good else pytest.raises(CcinitError):
        layers_job(REQUEST, channel)
    assert len(channel.given) == len(TARS)
    for fd in channel.given:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_layers_that_end_early_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, TARS[:1]) == "pull.neighbour"


def test_r46_full_disk_has_a_reason_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the layers imply is written here, too."""
    channel = Channel(tmp_path, TARS)

    def full(_fd: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(CcinitError) as refused:
        layers_job(REQUEST, channel)
    monkeypatch.undo()
    assert refused.value.reason == "pull.enospc"
    (tmp_path / "whole").mkdir()
    layers_job(REQUEST, Channel(tmp_path / "whole", TARS))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (replace(REQUEST.image, pinned=sha256_digest(b"")), "pull.manifest_digest"),
        (replace(REQUEST.image, documents=()), "pull.documents"),
        (replace(REQUEST.image, config=b"{}"), "pull.blob_size"),
        (replace(REQUEST.image, encryption=ImageEncryption.REQUIRED), "pull.encryption"),
    ],
)
def test_claim_of_the_registry_child_that_does_not_fit_is_refused(
    tmp_path: Path, image: InspectRequest, reason: str
) -> None:
    with pytest.raises(CcinitError) as refused:
        layers_job(replace(REQUEST, image=image), Channel(tmp_path, TARS))
    assert refused.value.reason == reason


def test_answer_without_its_file_is_refused(tmp_path: Path) -> None:
    channel = Channel(tmp_path, TARS)
    channel.answers = 0
    with pytest.raises(CcinitError) as refused:
        layers_job(REQUEST, channel)
    assert refused.value.reason == "child.protocol"


def test_layers_that_will_be_compressed_have_outlines(tmp_path: Path) -> None:
    request = replace(REQUEST, form=LayerForm.COMPRESSED)
    layers_job(request, Channel(tmp_path, TARS, form=LayerForm.COMPRESSED))
    for position in range(len(TARS)):
        assert (tmp_path / outline_file(position)).stat().st_size


def test_sizes_are_those_of_the_files_that_are_left(tmp_path: Path) -> None:
    verified = layers_job(REQUEST, Channel(tmp_path, TARS))
    sizes = [(tmp_path / name).stat().st_size for name in NAMES]
    assert [layer.tar_bytes for layer in verified.layers] == sizes


def test_image_with_too_many_paths_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccinit.pull.layers.verify.MAX_IMAGE_RECORDS", 6)
    with pytest.raises(CcinitError) as refused:
        layers_job(REQUEST, Channel(tmp_path, TARS))
    assert refused.value.reason == "tar.entries"
