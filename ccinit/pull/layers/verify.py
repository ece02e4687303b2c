"""The job of the `layers` child: from tars that come by pipe to layers that may be indexed.

It has no network and trusts nobody at the other end of the pipe: the pinned digest leads to the
manifest, that to the config, that to the digest of each layer's tar, and all of them are hashed
here. Each tar is hashed, written and read for its headers as it comes, bottom first, each on top of
what the ones before show. Whatever its headers say counts only once its digest is right.
"""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Protocol, TypeVar

from ccinit.errors import ChildError, KernelError, LimitExceededError, VerificationError
from ccinit.formats.encoding.digest import Digest, sha256_digest
from ccinit.pull.documents import verify_config, verify_documents, verify_encryption
from ccinit.pull.layers.file import LayerFile, write_error
from ccinit.pull.layers.stream import SOURCE, LayerReader
from ccinit.pull.layers.tar_pass import LayerPass, lay_over
from ccinit.pull.layers.tree import TreeLimits, empty_merged_root
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import (
    KeptTar,
    LayersRequest,
    OpenedTar,
    PassedLayer,
    VerifiedLayers,
    layer_file,
    outline_file,
)

A = TypeVar("A")

MAX_IMAGE_RECORDS = 1_000_000


class LayersChannel(Protocol):
    """What the job has of the outside: a pipe, a directory, and tars that are there already."""

    @property
    def fds(self) -> Mapping[str, int]:
        """The pipe by its name."""

    @property
    def workspace(self) -> str:
        """The path of the directory."""

    def ask_for_fds(self, question: object, answer: type[A], /) -> tuple[A, tuple[int, ...]]:
        """Put a `KeptTar`, and wait for `OpenedTar` and the file."""


def layers_job(request: LayersRequest, channel: LayersChannel) -> VerifiedLayers:
    """Verify an image, write, check and complete its layers' tars.

    Raises:
        VerificationError: `pull.…`, a digest does not fit.
        FormatError: `manifest.…`, `image_config.…`, `tar.…`.
        LimitExceededError: `pull.layer_bytes`, `pull.enospc`, `tar.…`.
        ChildError: `pull.neighbour`, `pull.stream`.
        CcinitError: no tar is left behind.
    """
    manifest = verify_encryption(
        verify_documents(request.documents, request.pinned), request.encryption
    )
    config = verify_config(request.config, manifest)
    tars = _Tars(channel, request)
    try:
        for position in range(request.kept if request.kept < len(config.diff_ids) else 0):
            tars.keep(position)
        layers = tuple(tars.receive(diff_id) for diff_id in config.diff_ids[request.kept :])
    except BaseException:
        tars.remove()
        raise
    used = request.documents[-1]
    return VerifiedLayers(manifest=sha256_digest(used), config=config, layers=layers)


class _Tars:
    """The tars of one image, on their way to the disk."""

    def __init__(self, channel: LayersChannel, request: LayersRequest) -> None:
        self._channel = channel
        self._source = LayerReader(channel.fds[SOURCE])
        self._left_bytes = request.tar_bytes
        self._left_records = MAX_IMAGE_RECORDS - request.kept_records
        self._form = request.form
        self._position = request.kept
        self._merged = empty_merged_root()
        self._paths: list[str] = []

    def keep(self, position: int) -> None:
        """Take note of one that is there already, for what the next ones stand on."""
        _answer, fds = self._channel.ask_for_fds(KeptTar(position=position), OpenedTar)
        if len(fds) != 1:
            raise ChildError("child.protocol", f"{len(fds)} tars")
        try:
            lay_over(fds[0], self._merged)
        finally:
            os.close(fds[0])

    def receive(self, diff_id: Digest) -> PassedLayer:
        """Take the next one."""
        with ExitStack() as stack:
            tar = stack.enter_context(self._create(layer_file(self._position)))
            outline = None
            if self._form is LayerForm.COMPRESSED:
                outline = stack.enter_context(self._create(outline_file(self._position)))
            try:
                passed = self._pass(tar, diff_id, outline)
            except OSError as error:
                if isinstance(error, KernelError):
                    raise
                raise write_error(error, "tar", layer_file(self._position)) from error
        self._position += 1
        self._left_records -= passed.records
        if self._left_records < 0:
            raise LimitExceededError("tar.entries", f"more than {MAX_IMAGE_RECORDS} in the image")
        return passed

    def remove(self) -> None:
        """Take all of them back."""
        for path in self._paths:
            with contextlib.suppress(OSError):  # the reason to give up is the one to tell
                os.unlink(path)

    def _create(self, name: str) -> LayerFile:
        path = os.path.join(self._channel.workspace, name)
        file = LayerFile(path)
        self._paths.append(path)
        return file

    def _pass(self, tar: LayerFile, diff_id: Digest, outline: LayerFile | None) -> PassedLayer:
        found = hashlib.sha256()
        layer = LayerPass(self._merged, TreeLimits(), self._form)
        for chunk in self._source.chunks():
            if tar.size + len(chunk) > self._left_bytes:
                raise LimitExceededError("pull.layer_bytes", f"more than {self._left_bytes}")
            found.update(chunk)
            tar.write(chunk)
            layer.feed(chunk)
        if found.hexdigest() != diff_id.hex:
            raise VerificationError("pull.diff_id", f"the layer's tar is not {diff_id}")
        passed = layer.finish(
            tar.fd, outline.write if outline is not None else None, max_bytes=self._left_bytes
        )
        self._left_bytes -= max(tar.size, os.fstat(tar.fd).st_size)  # as it came, or completed
        return passed
