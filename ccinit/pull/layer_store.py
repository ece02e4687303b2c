"""The layers of one pod: each is pulled, verified and indexed once, for all images that have it.

Key is the chain id (image-spec config.md, "Layer ChainID"): what a layer looks like depends on the
layers below it, so two images share a layer only if they share all below it. The first image that
needs a layer claims it, others wait until it is mounted and compared with its tar. Claims are made
whole, so an image only ever waits for one that has claimed before it: nobody waits in a circle. An
image that fails ends the pod, and with it whoever waits.
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
        is_compressed: the index has the content, too; what stands for the tar is its outline.
    """

    tar: str
    index: str
    mount_point: str
    is_compressed: bool = False


def name_layer(directory: str, position: int, form: LayerForm) -> LayerFiles:
    """Return the names of what a layer becomes in its image's directory."""
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
    """A layer that is mounted, and what our pass over its tar has said of it."""

    files: LayerFiles
    passed: PassedLayer


class Claim:
    """What one image gets from others, and owes them; bottom first."""

    def __init__(
        self, others: Sequence[Promise[StoredLayer]], own: Sequence[Promise[StoredLayer]]
    ) -> None:
        self._others = others
        self._own = own

    async def wait(self) -> tuple[StoredLayer, ...]:
        """Return the layers that others make, when all are there."""
        return tuple([await promise.value() for promise in self._others])

    def fulfil(self, layers: Sequence[StoredLayer]) -> None:
        """Give the others the layers above those."""
        for promise, layer in zip(self._own, layers, strict=True):
            promise.keep(layer)


class LayerStore:
    """All layers of the pod by chain id.

    Attributes:
        form: what each becomes.
    """

    def __init__(self, form: LayerForm = LayerForm.INDEX) -> None:
        self.form = form
        self._promised: dict[Digest, Promise[StoredLayer]] = {}

    def claim(self, diff_ids: Sequence[Digest]) -> Claim:
        """Claim what nobody has claimed of an image's layers; the diff_ids must be verified."""
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
    """Claim an image's layers for itself; nobody else gets them."""
    return LayerStore().claim(diff_ids)


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """Return the chain id of each layer, bottom first."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(sha256_digest(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
