"""What mkfs.erofs could do if the tar that it reads had taken it over, by itself or its index."""

import os
from collections.abc import Callable
from errno import EACCES, EPERM
from functools import partial
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.pull.erofs.index import IndexRequest
from ccinit.pull.image import pull_image, unmount_layers
from ccinit.pull.layer_store import LayerStore
from tests.fakes.images.registry import make_image
from tests.fakes.images.tars import Entry, make_tar
from tests.integration.pull.layer_oracle import Downloaded, image_of, request_for
from tests.integration.pull.native_pull import drive

MAPPED, FIRST_INODE = 1024 + 128 + 68, 1024 + 256
CHUNK_IN_TAR = bytes.fromhex("00000100")


class Substitute(Downloaded):
    """mkfs.erofs leaves an index that has the files' content itself, at the tar's offsets."""

    async def index(self, request: IndexRequest) -> None:
        await super().index(request)
        index = Path(self.channel.workspace) / "layer-0.erofs"
        data = bytearray(index.read_bytes())
        data[MAPPED : MAPPED + 4] = bytes(4)  # or Linux would take the tar's blocks for these
        for chunk in range(FIRST_INODE, len(data), 8):
            if data[chunk : chunk + 4] == CHUNK_IN_TAR:
                data[chunk : chunk + 4] = bytes(4)
        tar = (Path(self.channel.workspace) / "layer-0.tar").read_bytes()
        index.write_bytes(bytes(data) + tar[len(data) :].replace(b"2", b"3"))


def test_index_that_has_other_content_itself_is_refused(tmp_path: Path) -> None:
    """What the kernel tells of such a tree is all as it was: it names no devices."""
    content = (b"1" * 4000, b"2" * 600)
    names = [Entry(name, data) for name, data in zip("ab", content, strict=True)]
    tar = make_tar(Entry(".", None), *names)
    image = make_image([tar])
    (tmp_path / "refused").mkdir()
    substitute = Substitute(tmp_path / "refused", image, [tar])
    with pytest.raises(CcinitError) as refused:
        drive(pull_image(request_for(image), str(tmp_path / "refused"), substitute, LayerStore()))
    assert refused.value.reason == "erofs.content"
    assert not (tmp_path / "refused" / "layer-0").is_mount()
    with image_of((tar,), tmp_path / "taken") as taken:
        root = Path(taken.layers[0].mount_point)
        assert tuple((root / name).read_bytes() for name in "ab") == content


class Taken(Downloaded):
    """mkfs.erofs's user tries, after its work, what can be done with the tar."""

    errors: tuple[int, ...] = ()  # see `meddle`

    async def index(self, request: IndexRequest) -> None:
        await super().index(request)
        folder = os.open(self.channel.workspace, os.O_RDONLY)
        try:
            self.errors = as_user(self.owners.index, partial(meddle, folder))
        finally:
            os.close(folder)


def meddle(folder: int) -> tuple[int, ...]:
    """Return an error number for each attempt, 0 if it succeeds."""
    attempts: tuple[Callable[[], object], ...] = (
        lambda: os.open("layer-0.tar", os.O_RDONLY, dir_fd=folder),
        lambda: os.open("new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=folder),
        lambda: os.open("layer-0.tar", os.O_WRONLY, dir_fd=folder),
        lambda: os.chmod("layer-0.tar", 0o600, dir_fd=folder),
        lambda: os.unlink("layer-0.tar", dir_fd=folder),
        lambda: os.rename("new", "layer-0.tar", src_dir_fd=folder, dst_dir_fd=folder),
        lambda: os.fchmod(folder, 0o700),
    )
    return tuple(error_of(attempt) for attempt in attempts)


def error_of(attempt: Callable[[], object]) -> int:
    try:
        attempt()
    except OSError as error:
        return error.errno or -1
    return 0


def as_user(uid: int, act: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    """Return what `act` does in a process of that user and group alone."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.write(writer, bytes(act()))
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    told = os.read(reader, 100)
    os.close(reader)
    return tuple(told)


def test_whoever_makes_the_index_can_only_read_the_tar_that_was_verified(tmp_path: Path) -> None:
    """What it wrote there nobody would notice: the tree lies at the same offsets."""
    tar = make_tar(Entry(".", None), Entry("a", b"1" * 600))
    image = make_image([tar])
    children = Taken(tmp_path, image, [tar])
    pulled = drive(pull_image(request_for(image), str(tmp_path), children, LayerStore()))
    try:
        assert children.errors == (0, 0, EACCES, *([EPERM] * 4))
        assert (Path(pulled.layers[0].mount_point) / "a").read_bytes() == b"1" * 600
        assert Path(pulled.layers[0].tar).stat().st_mode & 0o777 == 0o400
    finally:
        unmount_layers(pulled.own)
