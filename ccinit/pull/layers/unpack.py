"""The job of the `unpack` child: layers come in by pipe and become tars.

Decompressors are large C programs that parse what anybody may have written, so they are isolated
here: without a network, keys, or files other than those that the tars are appended to, and nobody
trusts the result. The `layers` child hashes each tar, and knows what it has to be.
"""

from functools import partial

from ccinit.errors import ChildError
from ccinit.kernel.descriptor import Descriptor
from ccinit.pull.layers.decompress import decompress
from ccinit.pull.layers.growing_tar import TarAppender
from ccinit.pull.layers.stream import SINK, SOURCE, FileChannel, LayerReader
from ccinit.pull.messages.tars import NewTar, OpenedTar, UnpackReply, UnpackRequest


def unpack_job(request: UnpackRequest, channel: FileChannel) -> UnpackReply:
    """Decompress each layer.

    Raises:
        FormatError: `pull.gzip`, `pull.zstd`.
        LimitExceededError: `pull.layer_bytes`, `pull.ratio`, `pull.enospc`.
        ChildError: `pull.neighbour`, `pull.stream`.
    """
    source, sink = LayerReader(channel.fds[SOURCE]), TarAppender(channel.fds[SINK])
    made = 0
    for position, compression in enumerate(request.layers, request.first):
        with Descriptor(_ask_for_tar(channel, position)) as tar:
            made += decompress(
                source.chunks(),
                compression,
                partial(sink.append, tar),
                max_bytes=request.tar_bytes - made,
            )
            sink.end_layer()
    return UnpackReply()


def _ask_for_tar(channel: FileChannel, position: int) -> int:
    _answer, fds = channel.ask_for_fds(NewTar(position=position), OpenedTar)
    if len(fds) != 1:
        raise ChildError("child.protocol", f"{len(fds)} tars")
    return fds[0]
