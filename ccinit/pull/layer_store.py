"""The layers of one pod: each is pulled, verified and indexed once, for all images that have it.

The key is the chain id (image-spec config.md, "Layer ChainID"): how a layer looks depends on those
below it, so two images share a layer only if they share all layers below it. The first image that
needs a layer claims it; others wait until it is mounted and compared with its tar. An image claims
all its layers at once, so it only ever waits for images that claimed earlier, and there is no
deadlock. An image that fails ends the pod, and with it those that wait.
"""

import os
from collections.abc import Iterable, Sequence

from ccinit.formats.encoding.digest import Digest, sha256_digest
from ccinit.kernel.promise import Promise
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import PassedLayer
from ccinit.pull.messages.tars import layer_file, outline_file
from ccinit.pull.messages.tree import index_of
from ccinit.values import frozen


@frozen
class LayerFiles:
    """One layer: its tar, the erofs index over it, and where it is mounted; absolute paths.

    Attributes:
        is_compressed: the index has the content, too, and an outline takes the place of the tar.
    """

    tar: str
    index: str
    mount_point: str
    is_compressed: bool = False


def name_layer(directory: str, position: int, form: LayerForm) -> LayerFiles:
    """Return the paths of a layer's files in its image's directory."""
    is_compressed = form is LayerForm.COMPRESSED
    tar = outline_file(position) if is_compressed else layer_file(position)
    root = os.path.join(directory, f"layer-{position}")
    return LayerFiles(
        tar=os.path.join(directory, tar),
        index=index_of(root),
        mount_point=root,
        is_compressed=is_compressed,
    )


@frozen
class StoredLayer:
    """A mounted layer, and what our pass over its tar found."""

    files: LayerFiles
    passed: PassedLayer


class Claim:
    """The layers that one image gets from others, and those that it owes them; bottom first."""

    def __init__(
        self, others: Sequence[Promise[StoredLayer]], own: Sequence[Promise[StoredLayer]]
    ) -> None:
        self._others = others
        self._own = own

    async def wait(self) -> tuple[StoredLayer, ...]:
        """Wait for the layers that others make, and return them."""
        return tuple([await promise.value() for promise in self._others])

    def fulfil(self, layers: Sequence[StoredLayer]) -> None:
        """Hand the layers above those to the images that wait for them."""
        for promise, layer in zip(self._own, layers, strict=True):
            promise.keep(layer)


class LayerStore:
    """All layers of the pod by chain id.

    Attributes:
        form: what each layer is turned into.
    """

    def __init__(self, form: LayerForm = LayerForm.INDEX) -> None:
        self.form = form
        self._promised: dict[Digest, Promise[StoredLayer]] = {}

    def claim(self, diff_ids: Sequence[Digest]) -> Claim:
        """Claim those of an image's layers that are unclaimed; the diff_ids must be verified."""
        others: list[Promise[StoredLayer]] = []
        own: list[Promise[StoredLayer]] = []
        for chain_id in chain_ids(diff_ids):
            known = self._promised.get(chain_id)
            if known is not None and not own:
                others.append(known)
                continue
            own.append(Promise())
            self._promised[chain_id] = own[-1]
        return Claim(others, own)


def claim_alone(diff_ids: Sequence[Digest]) -> Claim:
    """Claim all of an image's layers for it alone, without sharing them."""
    return LayerStore().claim(diff_ids)


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """Return the chain id of each layer, bottom first."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(sha256_digest(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
