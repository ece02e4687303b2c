"""Layers of every compression become tars; what cannot be undone is refused by its reason."""

import errno
import gzip
import os
from pathlib import Path
from typing import TypeVar

import pytest
import zstandard

from ccinit.errors import CcinitError
from ccinit.formats.encoding import wire
from ccinit.formats.oci.compression import Compression
from ccinit.pull.layers.growing_tar import TarFollower
from ccinit.pull.layers.stream import SINK, SOURCE
from ccinit.pull.layers.unpack import unpack_job
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.tars import OpenedTar, UnpackRequest, layer_file
from ccinit.pull.tar_files import TarFiles
from ccinit.values import replace
from tests.fakes.images.layer_pipes import LayerPipe, give_tar

T = TypeVar("T")
FIRST = 3

TARS = [b"a tar" * 500_000, b"", b"another" * 1000]
PACKED = [gzip.compress(TARS[0]), b"", zstandard.ZstdCompressor().compress(TARS[2])]
REQUEST = UnpackRequest(
    layers=(Compression.GZIP, Compression.NONE, Compression.ZSTD),
    first=FIRST,
    tar_bytes=sum(map(len, TARS)),
)


class Channel:
    def __init__(self, directory: Path, layers: list[bytes]) -> None:
        self.directory = directory
        self.source, self.sink = LayerPipe(layers), LayerPipe()
        self.fds = {SOURCE: self.source.fd, SINK: self.sink.fd}
        self.tars = TarFiles(str(directory), range(FIRST, FIRST + len(TARS)), LayerForm.INDEX)
        self.files = 1

    def ask_for_fds(self, question: object, answer: type[T]) -> tuple[T, tuple[int, ...]]:
        value = OpenedTar()
        assert isinstance(value, answer)
        return value, give_tar(self.tars, question) * self.files

    def made(self) -> list[bytes]:
        """The tars as the next child finds them."""
        follower = TarFollower(self.sink.rewind())
        made = []
        for position in range(FIRST, FIRST + len(TARS)):
            (file,) = self.tars.open_to_verify(position)
            made.append(b"".join(bytes(piece) for piece in follower.pieces(file)))
            os.close(file)
        return made


def refusal(directory: Path, request: UnpackRequest, layers: list[bytes]) -> str:
    for name in ("refused", "whole"):
        (directory / name).mkdir()
    with pytest.raises(CcinitError) as refused:
        unpack_job(request, Channel(directory / "refused", layers))
    unpack_job(REQUEST, Channel(directory / "whole", PACKED))
    return refused.value.reason


def test_every_layer_becomes_its_tar(tmp_path: Path) -> None:
    channel = Channel(tmp_path, PACKED)
    request = wire.decode(UnpackRequest, wire.encode(REQUEST))
    unpack_job(request, channel)
    assert channel.made() == TARS
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        layer_file(position) for position in range(FIRST, FIRST + len(TARS))
    ]


def test_tars_beyond_the_cap_of_the_image_are_refused(tmp_path: Path) -> None:
    request = replace(REQUEST, tar_bytes=REQUEST.tar_bytes - 1)
    assert refusal(tmp_path, request, PACKED) == "pull.layer_bytes"


def test_layer_that_is_packed_otherwise_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, REQUEST, [PACKED[2], b"", PACKED[0]]) == "pull.gzip"


def test_layer_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, REQUEST, [PACKED[0][:-1], *PACKED[1:]]) == "pull.gzip"


def test_layers_that_end_early_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, REQUEST, PACKED[:2]) == "pull.neighbour"


def test_answer_without_its_file_is_refused(tmp_path: Path) -> None:
    channel = Channel(tmp_path, PACKED)
    channel.files = 0
    with pytest.raises(CcinitError) as refused:
        unpack_job(REQUEST, channel)
    assert refused.value.reason == "child.protocol"


def test_r46_full_disk_has_a_reason_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    channel = Channel(tmp_path, PACKED)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(CcinitError) as refused:
        unpack_job(REQUEST, channel)
    assert refused.value.reason == "pull.enospc"
