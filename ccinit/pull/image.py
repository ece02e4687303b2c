"""One image, end to end: what PID 1 does between the children that do the work.

    PullRequest ──registry──▶ (blobs)          a network child passes bytes on; nothing is believed
                  signature   AcceptedImage    asked in between, before any layer is fetched
                ──decrypt───▶ (blobs)          only if layers are encrypted
                ──unpack────▶ (tars)           decompressed, by a child that can only append
                ──layers────▶ VerifiedLayers   hashed, checked, completed
                ──index─────▶ IndexedLayers    erofs metadata over each tar; or see `compress`
                (mount)       MountedLayers    read-only, file-backed
                ──tree──────▶ PulledImage      what the kernel shows is what the tars say

The children up to `layers` work at the same time (`reception`). From there on, each step takes the
type that the one before returns. The children of a step are dead before the next one starts, and
their files then belong to PID 1, so no child can change what another step has checked. `agent`
starts the children and limits their rights; `run` overlays the layers.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from ccinit.errors import CcinitError, KernelError, VerificationError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.oci.image import ImageConfig
from ccinit.kernel.libc import make_new_directory
from ccinit.kernel.loop import open_loop
from ccinit.kernel.mount import CONFINED, MountFlag, detach, mount
from ccinit.pull.erofs.compress import CompressingChildren, compress_layers
from ccinit.pull.erofs.handover import lend, seal
from ccinit.pull.erofs.index import IndexRequest, end_with_page, index_arguments
from ccinit.pull.layer_store import LayerFiles, LayerStore, name_layer
from ccinit.pull.layers.file import telling_no_room
from ccinit.pull.messages.fetch import AcceptedImage, PullRequest, SignaturePolicy, SignatureRequest
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.tars import layer_file
from ccinit.pull.messages.tree import TreeDigests
from ccinit.pull.reception import Received, ReceivingChildren, receive_layers
from ccinit.pull.verdict import Verdict
from ccinit.values import frozen

_FLAGS = MountFlag.RDONLY | CONFINED | MountFlag.NOATIME


@frozen
class Owners:
    """User ids of the children that read files of this pull and write others."""

    index: int
    compress: int


class PullChildren(ReceivingChildren, CompressingChildren, Protocol):
    """The children of a pull; each call starts one in the image's directory and reaps it."""

    @property
    def owners(self) -> Owners:
        """The children's user ids."""

    async def judge(self, request: SignatureRequest) -> AcceptedImage:
        """Run `signature.judge.signature_job`."""

    async def index(self, request: IndexRequest) -> None:
        """Run `erofs.index.MKFS_EROFS` over each tar; raise `ChildError` unless all succeed."""

    async def walk(self, roots: tuple[str, ...], form: LayerForm) -> TreeDigests:
        """Run `erofs.walk.tree_job`, in one child or several; return all parts."""


@frozen
class IndexedLayers:
    """Received layers, with a file system for each that is not mounted already."""

    received: Received
    files: tuple[LayerFiles, ...]


@frozen
class MountedLayers:
    """An image whose layers are mounted, but not yet compared with its tars."""

    indexed: IndexedLayers

    @property
    def roots(self) -> tuple[str, ...]:
        """The mount points of the layers that are this image's own."""
        return tuple(files.mount_point for files in self.indexed.files)


@frozen
class PulledImage:
    """An image that may be run.

    Attributes:
        manifest: digest of the manifest in use.
        layers: bottom first.
        own: those of them that this pull has mounted.
        file_bytes: total size of the files of all layers.
    """

    manifest: Digest
    config: ImageConfig
    layers: tuple[LayerFiles, ...]
    own: tuple[LayerFiles, ...]
    file_bytes: int


async def pull_image(
    request: PullRequest,
    directory: str,
    children: PullChildren,
    store: LayerStore,
    policy: SignaturePolicy | None = None,
) -> PulledImage:
    """Pull the image that `request` names into `directory`, an empty one in the store.

    Args:
        request: with `with_signatures` if there is a policy.
        directory: for its files, PID 1's own.
        children: who does the work.
        store: the pod's layers, to which this image's are added, in the store's form.
        policy: which signatures the image needs; None if its digest in the manifest is enough.

    Raises:
        CcinitError: of any family; nothing stays mounted, the files stay for the caller to remove.
    """
    verdict = Verdict(request.reference, policy, children.judge)
    received = await receive_layers(request, directory, verdict, store, children)
    indexed = await _make_file_systems(received, directory, children, store.form)
    mounted = mount_layers(indexed)
    try:
        image = verify_trees(mounted, await children.walk(mounted.roots, store.form))
        received.share(indexed.files)
    except BaseException:
        unmount_layers(indexed.files)
        raise
    return image


async def _make_file_systems(
    received: Received, directory: str, children: PullChildren, form: LayerForm
) -> IndexedLayers:
    first = len(received.kept)
    positions = range(first, first + len(received.verified.layers))
    if form is LayerForm.COMPRESSED:
        files = await compress_layers(directory, positions, children, children.owners.compress)
    else:
        files = await _index_layers(directory, positions, children)
    return IndexedLayers(received=received, files=files)


async def _index_layers(
    directory: str, positions: Sequence[int], children: PullChildren
) -> tuple[LayerFiles, ...]:
    tars = [layer_file(position) for position in positions]
    lend(directory, tars, children.owners.index)
    files = tuple(name_layer(directory, position, LayerForm.INDEX) for position in positions)
    if files:
        runs = tuple(index_arguments(layer.tar, layer.index) for layer in files)
        with telling_no_room():
            await children.index(IndexRequest(runs=runs))
    indexes = [os.path.basename(layer.index) for layer in files]
    seal(directory, (*tars, *indexes))
    for layer in files:
        end_with_page(layer.index)
    return files


def mount_layers(indexed: IndexedLayers) -> MountedLayers:
    """Mount each layer read-only at its mount point, which is made.

    Raises:
        KernelError: the kernel refused one; none stays mounted.
    """
    done: list[LayerFiles] = []
    try:
        for layer in indexed.files:
            make_new_directory(layer.mount_point, 0o700)
            _mount_layer(layer)
            done.append(layer)
    except CcinitError:
        unmount_layers(done)
        raise
    return MountedLayers(indexed=indexed)


def verify_trees(mounted: MountedLayers, walked: TreeDigests) -> PulledImage:
    """Return the image if the kernel shows what our pass over the tars found.

    Layers that it shares with earlier images were compared when those were pulled.

    Args:
        mounted: its own layers.
        walked: what the kernel shows of those.

    Raises:
        VerificationError: `pull.tree`.
    """
    received, own = mounted.indexed.received, mounted.indexed.files
    verified = received.verified
    if walked.listings != tuple(layer.listing for layer in verified.layers):
        raise VerificationError("pull.tree", "a mounted layer is not what its tar says")
    passed = (*(layer.passed for layer in received.kept), *verified.layers)
    return PulledImage(
        manifest=verified.manifest,
        config=verified.config,
        layers=(*(layer.files for layer in received.kept), *own),
        own=own,
        file_bytes=sum(layer.file_bytes for layer in passed),
    )


def unmount_layers(layers: Sequence[LayerFiles]) -> None:
    """Unmount layers, the last first; a busy one is detached, and goes with its last user.

    Raises:
        KernelError: the kernel refused one; the others are unmounted.
    """
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(detach, layer.mount_point)


def _mount_layer(layer: LayerFiles) -> None:
    parts = (layer.index,) if layer.is_compressed else (layer.index, layer.tar)
    try:
        _mount_parts(parts, layer.mount_point)
    except KernelError as error:
        # A file on tmpfs cannot back erofs (Linux 6.12); a loop device over it can.
        if error.errno != errno.ENOTBLK:
            raise
        with ExitStack() as stack:
            loops = [stack.enter_context(open_loop(part)) for part in parts]
            _mount_parts([loop.node for loop in loops], layer.mount_point)


def _mount_parts(parts: Sequence[str], target: str) -> None:
    source, *devices = parts
    options = ",".join(f"device={device}" for device in devices)
    mount(source, target, "erofs", _FLAGS, options)
