"""The pass over a tar that is there whole, for tests of what comes of it."""

import os

from ccinit.pull.layers.tar_pass import LayerPass
from ccinit.pull.layers.tree import MergedDirectory, TreeLimits
from ccinit.pull.messages.layers import PassedLayer

_CHUNK_BYTES = 1 << 20


def pass_layer(tar: int, below: MergedDirectory, limits: TreeLimits) -> PassedLayer:
    """Check and complete the archive in the file `tar`, open for reading and writing."""
    layer = LayerPass(below, limits)
    offset = 0
    while chunk := os.pread(tar, _CHUNK_BYTES, offset):
        layer.feed(memoryview(chunk))
        offset += len(chunk)
    return layer.finish(tar)
