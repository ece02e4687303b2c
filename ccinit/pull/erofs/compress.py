"""Compressed layers, for pods without a scratch disk, with as little memory as possible.

All tars of the image are on a tmpfs, hashed and checked. One layer after the other, the smallest
first, is piped into mkfs.erofs, and its tar is freed on the way (`feed`) and then removed. So the
image never takes more than all of its tars and the compressed form of one. The result is mounted
and compared as an index is, content included (`image`).
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
    """The children that compress; each call starts them in the image's directory and reaps them."""

    async def compress(self, tar: str, arguments: tuple[str, ...]) -> None:
        """Run `index.MKFS_EROFS` behind `feed.feed_job`.

        Raise `ChildError` unless both succeed without output of mkfs.erofs: out of space, it prints
        an error, goes on and exits with 0.
        """


async def compress_layers(
    directory: str, positions: Sequence[int], children: CompressingChildren, uid: int
) -> tuple[LayerFiles, ...]:
    """Compress the layers whose tars and outlines are in `directory`, and remove the tars.

    Args:
        directory: of the image, on a tmpfs.
        positions: of the layers, bottom first.
        children: who does the work.
        uid: the user that mkfs.erofs runs as. It may add files, but not touch others.

    Raises:
        LimitExceededError: `pull.enospc`.
        ChildError: `pull.index`, or a child did not do its work.
        VerificationError: `pull.file`, its output is not a plain file.
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
