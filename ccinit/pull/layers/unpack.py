"""The job of the `unpack` child: layers come in through one pipe and leave as tars through another.

Decompressors are large programs in C that read what anybody may have written, so they are alone
here: no network, no key, no file, and nobody who believes the result. What a tar must be is known
to the `layers` child, which hashes it.
"""

from collections.abc import Mapping
from typing import Protocol

from ccinit.formats.oci.compression import Compression
from ccinit.pull.layers.decompress import OutputLimit, make_decompressor
from ccinit.pull.layers.stream import SINK, SOURCE, LayerReader, LayerWriter
from ccinit.pull.messages.unpack import UnpackReply, UnpackRequest


class PipeChannel(Protocol):
    """What the job has of the outside: its pipes."""

    @property
    def fds(self) -> Mapping[str, int]:
        """The pipes by name."""


def unpack_job(request: UnpackRequest, channel: PipeChannel) -> UnpackReply:
    """Undo the compression of each layer.

    Raises:
        FormatError: `pull.gzip`, `pull.zstd`.
        LimitExceededError: `pull.layer_bytes`, `pull.ratio`.
        ChildError: `pull.neighbour`, `pull.stream`.
    """
    source, sink = LayerReader(channel.fds[SOURCE]), LayerWriter(channel.fds[SINK])
    made = 0
    for compression in request.layers:
        made += _unpack_layer(source, sink, compression, request.tar_bytes - made)
    return UnpackReply(tar_bytes=made)


def _unpack_layer(
    source: LayerReader, sink: LayerWriter, compression: Compression, max_bytes: int
) -> int:
    made = 0

    def write(data: bytes | memoryview) -> None:
        nonlocal made
        made += len(data)
        sink.write(data)

    decompressor = make_decompressor(compression, write, OutputLimit(max_bytes=max_bytes))
    for chunk in source.chunks():
        decompressor.feed(chunk)
    decompressor.finish()
    sink.end_layer()
    return made
