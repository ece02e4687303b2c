"""The files of an image's tars: who gets which, and that nothing was added behind the verdict."""

import os
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import PassedLayer
from ccinit.pull.messages.tars import layer_file, outline_file
from ccinit.pull.tar_files import TarFiles

FIRST, COMING = 2, range(2, 4)
TARS = (b"one", b"other")


def passed(size: int) -> PassedLayer:
    return PassedLayer(listing=(sha256_digest(b""),), records=1, file_bytes=1, tar_bytes=size)


def write(files: TarFiles, position: int, data: bytes) -> None:
    (file,) = files.open_to_append(position)
    os.write(file, data)
    os.close(file)


@pytest.fixture
def files(tmp_path: Path) -> TarFiles:
    """Two tars that were appended."""
    files = TarFiles(str(tmp_path), COMING, LayerForm.INDEX)
    for position, tar in zip(COMING, TARS, strict=True):
        write(files, position, tar)
    return files


def reason_of(call: object, *arguments: object) -> str:
    assert callable(call)
    with pytest.raises(CcinitError) as refused:
        call(*arguments)
    return refused.value.reason


def test_what_was_appended_is_read_and_completed(files: TarFiles, tmp_path: Path) -> None:
    (file,) = files.open_to_verify(FIRST)
    assert os.read(file, 10) == b"one"
    os.pwrite(file, b"complete", 1)
    os.close(file)
    assert (tmp_path / layer_file(FIRST)).read_bytes() == b"ocomplete"
    assert (tmp_path / layer_file(FIRST)).stat().st_mode & 0o777 == 0o600


def test_reader_may_come_first(tmp_path: Path) -> None:
    files = TarFiles(str(tmp_path), COMING, LayerForm.INDEX)
    (file,) = files.open_to_verify(FIRST)
    write(files, FIRST, b"later")
    assert os.read(file, 10) == b"later"
    os.close(file)


def test_file_for_the_outline_comes_with_a_tar_to_be_compressed(tmp_path: Path) -> None:
    files = TarFiles(str(tmp_path), COMING, LayerForm.COMPRESSED)
    tar, outline = files.open_to_verify(FIRST)
    os.write(outline, b"outline")
    os.close(tar)
    os.close(outline)
    assert (tmp_path / outline_file(FIRST)).read_bytes() == b"outline"


@pytest.mark.parametrize("position", [-1, 0, 1, 4, 1 << 70])
def test_layer_that_does_not_come_has_no_file(
    files: TarFiles, tmp_path: Path, position: int
) -> None:
    assert reason_of(files.open_to_append, position) == "child.protocol"
    assert reason_of(files.open_to_verify, position) == "child.protocol"
    assert {path.name for path in tmp_path.iterdir()} == {layer_file(2), layer_file(3)}


@pytest.mark.parametrize("name", ["open_to_append", "open_to_verify"])
def test_file_that_is_there_already_is_not_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / layer_file(FIRST)).symlink_to("/etc/passwd")
    files = TarFiles(str(tmp_path), COMING, LayerForm.INDEX)
    assert reason_of(getattr(files, name), FIRST) == "kernel.open"


def test_outline_that_is_there_already_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / outline_file(FIRST)).touch()
    files = TarFiles(str(tmp_path), COMING, LayerForm.COMPRESSED)
    before = sorted(Path("/proc/self/fd").iterdir())
    assert reason_of(files.open_to_verify, FIRST) == "kernel.open"
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ((3, 4), "pull.stream"),
        ((2, 5), "pull.stream"),
        ((3,), "child.protocol"),
        ((), "child.protocol"),
    ],
)
def test_tar_that_has_grown_behind_the_verdict_is_refused(
    files: TarFiles, sizes: tuple[int, ...], reason: str
) -> None:
    files.verify_sizes([passed(len(tar)) for tar in TARS])
    assert reason_of(files.verify_sizes, [passed(size) for size in sizes]) == reason


def test_tar_that_was_never_made_is_no_tar(tmp_path: Path) -> None:
    files = TarFiles(str(tmp_path), COMING, LayerForm.INDEX)
    assert reason_of(files.verify_sizes, [passed(0), passed(0)]) == "kernel.lstat"
