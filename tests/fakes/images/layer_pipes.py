"""Files in place of the pipes between the children of a pull, for jobs that run one by one."""

import os
import weakref
from collections.abc import Sequence

from ccinit.pull.layers.growing_tar import TarAppender
from ccinit.pull.layers.stream import LayerReader, LayerWriter
from ccinit.pull.messages.tars import GrowingTar, NewTar
from ccinit.pull.tar_files import TarFiles


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


def append_tars(files: TarFiles, tars: Sequence[bytes], first: int = 0) -> LayerPipe:
    """Have the tars of an image's layers made, as `unpack` makes them; return its words."""
    words = LayerPipe()
    appender = TarAppender(words.fd)
    for position, tar in enumerate(tars, first):
        (file,) = files.open_to_append(position)
        appender.append(file, tar)
        appender.end_layer()
        os.close(file)
    words.rewind()
    return words


def give_tar(files: TarFiles, question: object) -> tuple[int, ...]:
    """Answer what a child asks PID 1 about tars that come."""
    match question:
        case NewTar():
            return files.open_to_append(question.position)
        case GrowingTar():
            return files.open_to_verify(question.position)
        case _:
            raise AssertionError(question)
