"""Files in place of the pipes between the children of a pull, for jobs that run one by one."""

import os
import weakref
from collections.abc import Sequence

from ccinit.pull.layers.stream import LayerReader, LayerWriter


class LayerPipe:
    """One of them: what was written can be read from its beginning."""

    def __init__(self, layers: Sequence[bytes] = ()) -> None:
        """Args: layers: what is in it already."""
        self.fd = os.memfd_create("layers")
        weakref.finalize(self, os.close, self.fd)
        for layer in layers:
            sink = LayerWriter(self.fd)
            sink.write(layer)
            sink.end_layer()
        self.rewind()

    def rewind(self) -> int:
        """Go to the beginning; return the fd."""
        os.lseek(self.fd, 0, os.SEEK_SET)
        return self.fd

    def layers(self) -> list[bytes]:
        """Return all that was written whole."""
        source = LayerReader(self.rewind())
        end = os.fstat(self.fd).st_size
        layers = []
        while os.lseek(self.fd, 0, os.SEEK_CUR) < end:
            layers.append(b"".join(bytes(chunk) for chunk in source.chunks()))
        return layers
