"""One image, end to end: what PID 1 does between the children that do the work.

    PullRequest ──registry──▶ PulledBlobs      a network child wrote files; nothing is believed
                  signature   AcceptedImage    asked in between, before any layer is fetched
                ──decrypt───▶ (tars)           only if layers are encrypted, see `encrypted_layers`
                ──layers────▶ VerifiedLayers   hashed and checked without a network, completed
                ──index─────▶ IndexedLayers    erofs metadata over each tar
                (mount)       MountedLayers    read-only, file-backed
                ──tree──────▶ PulledImage      what the kernel shows is what the tars say

Each step takes the type that the one before returns. Children of one step are gone before the next
step starts, and their files change hands in between: no child can change what another step has
checked. Who starts a child, with which rights, is `agent`'s; overlaying the layers is `run`'s.
"""

import errno
import os
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from ccinit.errors import CcinitError, FormatError, KernelError, VerificationError
from ccinit.formats.digest import Digest
from ccinit.formats.oci_image import ImageConfig
from ccinit.formats.oci_reference import parse_image_reference
from ccinit.kernel.event_loop import TaskGroup
from ccinit.kernel.loop import open_loop
from ccinit.kernel.mount import CONFINED, MountFlag, UmountFlag, mount, umount2
from ccinit.pull.encrypted_layers import DecryptChildren, decrypt_layers
from ccinit.pull.handover import give_directory, hand_over
from ccinit.pull.index import index_arguments
from ccinit.pull.messages import (
    AcceptedImage,
    LayersRequest,
    PulledBlobs,
    PullRequest,
    SignaturePolicy,
    SignatureRequest,
    TreeDigests,
    TreeRequest,
    VerifiedLayers,
    layer_file,
)
from ccinit.pull.verdict import Decide, Verdict
from ccinit.values import frozen

INDEXES_AT_ONCE = 4
"""Most of an index is the start of its child, which waits for files while others compute."""

_FLAGS = MountFlag.RDONLY | CONFINED | MountFlag.NOATIME


@frozen
class Owners:
    """User ids that the children's files are handed to."""

    registry: int
    decrypt: int
    layers: int
    index: int


class PullChildren(DecryptChildren, Protocol):
    """The children of a pull; each call starts one in the image's directory and buries it."""

    @property
    def owners(self) -> Owners:
        """Their user ids."""

    async def fetch(self, request: PullRequest, decide: Decide) -> PulledBlobs:
        """Run `fetch.registry_job`; `decide` answers its question about signatures."""

    async def judge(self, request: SignatureRequest) -> AcceptedImage:
        """Run `signatures.signature_job`."""

    async def verify(self, request: LayersRequest) -> VerifiedLayers:
        """Run `verify.layers_job`."""

    async def index(self, arguments: tuple[str, ...]) -> None:
        """Run `index.MKFS_EROFS`; raise `ChildError` unless it succeeds."""

    async def walk(self, request: TreeRequest) -> TreeDigests:
        """Run `tree.tree_job`."""


@frozen
class LayerFiles:
    """One layer: its tar, the erofs index over it, and where it is mounted; absolute paths."""

    tar: str
    index: str
    mount_point: str


@frozen
class IndexedLayers:
    """A verified image with an index for each layer."""

    verified: VerifiedLayers
    files: tuple[LayerFiles, ...]


@frozen
class MountedLayers:
    """An image whose layers are mounted, but not yet compared with its tars."""

    indexed: IndexedLayers


@frozen
class PulledImage:
    """An image that may be run.

    Attributes:
        manifest: digest of the manifest in use.
        layers: bottom first.
        file_bytes: content of all files of all layers.
    """

    manifest: Digest
    config: ImageConfig
    layers: tuple[LayerFiles, ...]
    file_bytes: int


async def pull_image(
    request: PullRequest,
    directory: str,
    children: PullChildren,
    policy: SignaturePolicy | None = None,
) -> PulledImage:
    """Pull the image that `request` names into `directory`, an empty one on scratch.

    Args:
        request: with `with_signatures` if there is a policy.
        directory: for its files.
        children: who does the work.
        policy: which signatures it needs; None if its digest in the manifest is enough.

    Raises:
        CcinitError: of any family; nothing stays mounted, the files stay for the caller to remove.
    """
    pinned = parse_image_reference(request.reference).digest
    owners = children.owners
    give_directory(directory, owners.registry)
    verdict = Verdict(request.reference, policy, children.judge)
    blobs = await children.fetch(request, verdict.decide)
    documents = verdict.verify_documents(blobs.documents)
    tars = _check_names(blobs.files)
    if tars != blobs.files:
        encrypted = [name for name in blobs.files if name not in tars]
        hand_over(directory, encrypted, owners.decrypt)
        await decrypt_layers(request, blobs, children)
    hand_over(directory, tars, owners.layers)
    verified = await children.verify(
        LayersRequest(
            pinned=pinned,
            documents=documents,
            config=blobs.config,
            tars=tars,
            encryption=request.encryption,
        )
    )
    indexed = await _index_layers(verified, tars, directory, children)
    mounted = mount_layers(indexed)
    try:
        roots = tuple(files.mount_point for files in indexed.files)
        return verify_trees(mounted, await children.walk(TreeRequest(roots=roots)))
    except BaseException:
        unmount_layers(indexed.files)
        raise


async def _index_layers(
    verified: VerifiedLayers, tars: Sequence[str], directory: str, children: PullChildren
) -> IndexedLayers:
    if len(verified.layers) != len(tars):
        raise FormatError("pull.layers", "a tar was neither verified nor refused")
    hand_over(directory, tars, children.owners.index)
    files = tuple(
        LayerFiles(
            tar=os.path.join(directory, tar),
            index=os.path.join(directory, f"layer-{position}.erofs"),
            mount_point=os.path.join(directory, f"layer-{position}"),
        )
        for position, tar in enumerate(tars)
    )
    waiting = deque(files)

    async def index_waiting() -> None:
        while waiting:
            layer = waiting.popleft()
            await children.index(index_arguments(layer.tar, layer.index))

    async with TaskGroup() as group:
        for number in range(INDEXES_AT_ONCE):
            group.start(index_waiting(), f"index {number}")
    indexes = [os.path.basename(layer.index) for layer in files]
    hand_over(directory, (*tars, *indexes), os.geteuid())
    return IndexedLayers(verified=verified, files=files)


def mount_layers(indexed: IndexedLayers) -> MountedLayers:
    """Mount each layer read-only at its mount point, which is made.

    Raises:
        KernelError: the kernel refused one; none stays mounted.
    """
    done: list[LayerFiles] = []
    try:
        for layer in indexed.files:
            _make_directory(layer.mount_point)
            _mount_layer(layer)
            done.append(layer)
    except CcinitError:
        unmount_layers(done)
        raise
    return MountedLayers(indexed=indexed)


def verify_trees(mounted: MountedLayers, walked: TreeDigests) -> PulledImage:
    """Return the image if what the kernel shows is what our pass over the tars said.

    Raises:
        VerificationError: `pull.tree`.
    """
    verified = mounted.indexed.verified
    if walked.listings != tuple(layer.listing for layer in verified.layers):
        raise VerificationError("pull.tree", "a mounted layer is not what its tar says")
    return PulledImage(
        manifest=verified.manifest,
        config=verified.config,
        layers=mounted.indexed.files,
        file_bytes=sum(layer.file_bytes for layer in verified.layers),
    )


def unmount_layers(layers: Sequence[LayerFiles]) -> None:
    """Unmount layers, the last first; one that is busy goes with its last user."""
    for layer in reversed(layers):
        umount2(layer.mount_point, UmountFlag.DETACH | UmountFlag.NOFOLLOW)


def _mount_layer(layer: LayerFiles) -> None:
    try:
        mount(layer.index, layer.mount_point, "erofs", _FLAGS, f"device={layer.tar}")
    except KernelError as error:
        # A file on tmpfs cannot back erofs (Linux 6.12); a loop device over it can.
        if error.errno != errno.ENOTBLK:
            raise
        with ExitStack() as stack:
            index = stack.enter_context(open_loop(layer.index))
            tar = stack.enter_context(open_loop(layer.tar))
            mount(index.node, layer.mount_point, "erofs", _FLAGS, f"device={tar.node}")


def _check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the tars that there are to be in the end.

    The `registry` child names files; only the names that it was to use are taken.
    """
    for position, name in enumerate(names):
        if name not in (layer_file(position), layer_file(position, is_encrypted=True)):
            raise FormatError("pull.layers", "the registry child names other files")
    return tuple(layer_file(position) for position in range(len(names)))


def _make_directory(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        raise KernelError(error.errno or 0, "mkdir", path) from error
