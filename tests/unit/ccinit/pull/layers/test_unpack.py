"""Layers of every compression become tars; what cannot be undone is refused by its reason."""

import gzip

import pytest
import zstandard

from ccinit.errors import CcinitError
from ccinit.formats.encoding import wire
from ccinit.formats.oci.compression import Compression
from ccinit.pull.layers.stream import SINK, SOURCE
from ccinit.pull.layers.unpack import unpack_job
from ccinit.pull.messages.unpack import UnpackReply, UnpackRequest
from tests.fakes.images.layer_pipes import LayerPipe

TARS = [b"a tar" * 500_000, b"", b"another" * 1000]
PACKED = [gzip.compress(TARS[0]), b"", zstandard.ZstdCompressor().compress(TARS[2])]
REQUEST = UnpackRequest(
    layers=(Compression.GZIP, Compression.NONE, Compression.ZSTD),
    tar_bytes=sum(map(len, TARS)),
)


class Channel:
    def __init__(self, layers: list[bytes]) -> None:
        self.source, self.sink = LayerPipe(layers), LayerPipe()
        self.fds = {SOURCE: self.source.fd, SINK: self.sink.fd}


def refusal(request: UnpackRequest, layers: list[bytes]) -> str:
    with pytest.raises(CcinitError) as refused:
        unpack_job(request, Channel(layers))
    unpack_job(REQUEST, Channel(PACKED))
    return refused.value.reason


def test_every_layer_becomes_its_tar() -> None:
    channel = Channel(PACKED)
    request = wire.decode(UnpackRequest, wire.encode(REQUEST))
    assert unpack_job(request, channel) == UnpackReply(tar_bytes=sum(map(len, TARS)))
    assert channel.sink.layers() == TARS


def test_tars_beyond_the_cap_of_the_image_are_refused() -> None:
    request = UnpackRequest(layers=REQUEST.layers, tar_bytes=REQUEST.tar_bytes - 1)
    assert refusal(request, PACKED) == "pull.layer_bytes"


def test_layer_that_is_packed_otherwise_is_refused() -> None:
    assert refusal(REQUEST, [PACKED[2], b"", PACKED[0]]) == "pull.gzip"


def test_layer_that_is_cut_short_is_refused() -> None:
    assert refusal(REQUEST, [PACKED[0][:-1], *PACKED[1:]]) == "pull.gzip"


def test_layers_that_end_early_are_refused() -> None:
    assert refusal(REQUEST, PACKED[:2]) == "pull.neighbour"
