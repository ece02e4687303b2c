"""Compressed layers, for pods without a scratch disk: what PID 1 does about the memory they take.

All tars of the image are on a tmpfs, hashed and passed. One layer after the other, the smallest
first, goes through a pipe into mkfs.erofs and is cut down on the way (`feed`); then its tar is
removed. So the most that the image ever takes is all of its tars and the compressed form of one.
What comes out is mounted and compared, content included, as an index is (`image`).
"""

import os
from collections.abc import Sequence
from typing import Protocol

from ccinit.kernel.libc import kernel_error
from ccinit.pull.erofs.handover import seal, share_directory
from ccinit.pull.erofs.index import compression_arguments
from ccinit.pull.layer_store import LayerFiles, name_layer
from ccinit.pull.layers.file import telling_no_room
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.tars import layer_file, outline_file


class CompressingChildren(Protocol):
    """Those that compress; each call starts them in the image's directory and buries them."""

    async def compress(self, tar: str, arguments: tuple[str, ...]) -> None:
        """Run `index.MKFS_EROFS` behind `feed.feed_job`.

        Raise `ChildError` unless both succeed and mkfs.erofs has said nothing: without room it
        complains, goes on and exits with 0.
        """


async def compress_layers(
    directory: str, positions: Sequence[int], children: CompressingChildren, uid: int
) -> tuple[LayerFiles, ...]:
    """Compress the layers whose tars and outlines are in `directory`; the tars go.

    Args:
        directory: of the image, on a tmpfs.
        positions: of the layers, bottom first.
        children: who does the work.
        uid: whom mkfs.erofs runs as. It may add files, and touch no other.

    Raises:
        LimitExceededError: `pull.enospc`.
        ChildError: `pull.index`, or a child did not do its work.
        VerificationError: `pull.file`, what it has left is no plain file.
        KernelError: the kernel refused.
    """
    names = [name(position) for position in positions for name in (layer_file, outline_file)]
    seal(directory, names)
    share_directory(directory, uid)
    layers = tuple(name_layer(directory, position, LayerForm.COMPRESSED) for position in positions)
    tars = [os.path.join(directory, layer_file(position)) for position in positions]
    pairs = sorted(zip(tars, layers, strict=True), key=lambda pair: os.path.getsize(pair[0]))
    for tar, layer in pairs:
        await _compress(children, tar, layer.index)
    seal(directory, [os.path.basename(layer.index) for layer in layers])
    return layers


async def _compress(children: CompressingChildren, tar: str, image: str) -> None:
    with telling_no_room():
        await children.compress(tar, compression_arguments(image))
    try:
        os.unlink(tar)
    except OSError as error:
        raise kernel_error(error, "unlink", tar) from error
