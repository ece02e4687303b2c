"""The job of the `layers` child: from tars that another child makes to layers fit for indexing.

It has no network and does not trust its neighbour: the pinned digest leads to the manifest, that to
the config, and that to the digest of each layer's tar, and all of them are hashed here. Each tar is
hashed, and its headers are read, while it grows: bottom first, each on top of what the ones below
show. What its headers say counts only once its digest matches.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from ccinit.errors import ChildError, KernelError, LimitExceededError, VerificationError
from ccinit.formats.encoding.digest import Digest, sha256_digest
from ccinit.kernel.descriptor import close_all
from ccinit.pull.documents import verify_image
from ccinit.pull.layers.file import write_all, write_error
from ccinit.pull.layers.growing_tar import TarFollower
from ccinit.pull.layers.stream import SOURCE, FileChannel
from ccinit.pull.layers.tar_pass import LayerPass, lay_over
from ccinit.pull.layers.tree import TreeLimits, empty_merged_root
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import LayersRequest, PassedLayer, VerifiedLayers
from ccinit.pull.messages.tars import GrowingTar, KeptTar, OpenedTar, layer_file

MAX_IMAGE_RECORDS = 1_000_000


def layers_job(request: LayersRequest, channel: FileChannel) -> VerifiedLayers:
    """Verify an image, check and complete its layers' tars.

    Raises:
        VerificationError: `pull.…`, a digest does not fit.
        FormatError: `manifest.…`, `image_config.…`, `tar.…`.
        LimitExceededError: `pull.layer_bytes`, `pull.enospc`, `tar.…`.
        ChildError: `pull.neighbour`, `pull.stream`.
    """
    image = request.image
    _manifest, config = verify_image(image.documents, image.config, image.pinned, image.encryption)
    tars = _Tars(channel, request)
    coming = config.diff_ids[request.kept :]
    for position in range(request.kept if coming else 0):  # nobody else looks below
        tars.lay_below(position)
    layers = tuple(tars.receive(diff_id) for diff_id in coming)
    used = sha256_digest(image.documents[-1])
    return VerifiedLayers(manifest=used, config=config, layers=layers)


class _Tars:
    """The tars of one image, as they arrive."""

    def __init__(self, channel: FileChannel, request: LayersRequest) -> None:
        self._channel = channel
        self._follower = TarFollower(channel.fds[SOURCE])
        self._left_bytes = request.tar_bytes
        self._left_records = MAX_IMAGE_RECORDS - request.kept_records
        self._form = request.form
        self._position = request.kept
        self._merged = empty_merged_root()

    def lay_below(self, position: int) -> None:
        """Lay a layer that is already there below the next ones."""
        with self._files(KeptTar(position=position), 1) as (tar,):
            lay_over(tar, self._merged)

    def receive(self, diff_id: Digest) -> PassedLayer:
        """Verify the next layer."""
        is_compressed = self._form is LayerForm.COMPRESSED
        with self._files(GrowingTar(position=self._position), 1 + is_compressed) as (tar, *rest):
            try:
                passed = self._pass(tar, diff_id, *rest)
            except OSError as error:
                if isinstance(error, KernelError):
                    raise
                raise write_error(error, "tar", layer_file(self._position)) from error
        self._position += 1
        self._left_records -= passed.records
        if self._left_records < 0:
            raise LimitExceededError("tar.entries", f"more than {MAX_IMAGE_RECORDS} in the image")
        return passed

    def _pass(self, tar: int, diff_id: Digest, outline: int | None = None) -> PassedLayer:
        found = hashlib.sha256()
        layer = LayerPass(self._merged, TreeLimits(), self._form)
        came = 0
        for piece in self._follower.pieces(tar):
            came += len(piece)
            if came > self._left_bytes:
                raise LimitExceededError("pull.layer_bytes", f"more than {self._left_bytes}")
            found.update(piece)
            layer.feed(piece)
        if found.hexdigest() != diff_id.hex:
            raise VerificationError("pull.diff_id", f"the layer's tar is not {diff_id}")
        write = None if outline is None else partial(write_all, outline, name="outline")
        passed = layer.finish(tar, write, max_bytes=self._left_bytes)
        self._left_bytes -= max(came, passed.tar_bytes)  # as it came, or completed
        return passed

    @contextmanager
    def _files(self, question: object, count: int) -> Iterator[tuple[int, ...]]:
        _answer, fds = self._channel.ask_for_fds(question, OpenedTar)
        try:
            if len(fds) != count:
                raise ChildError("child.protocol", f"{len(fds)} files")
            yield fds
        finally:
            close_all(fds)
