"""The job of the `registry` child: one image, from the registry to files on scratch.

It owns the network and nothing else: it writes below one directory and answers with documents and
file names. A layer becomes its tar on the way; one that is encrypted stays as it is, for keys and
network are never in one process (`decrypt`). Every digest of what is downloaded is checked here,
and what was made from bytes that turn out wrong is removed; yet all of it is unverified to the rest
of the guest, which hashes again in a child that never saw the network (`verify`).
"""

import contextlib
import os
from typing import Protocol, TypeVar

from ccinit.errors import VerificationError
from ccinit.formats.digest import Digest
from ccinit.formats.oci_image import Compression, Descriptor, Layer, Manifest
from ccinit.formats.oci_reference import parse_image_reference
from ccinit.pull.attachments import find_signatures
from ccinit.pull.blob import BlobVerifier
from ccinit.pull.decompress import Decompressor, OutputLimit, make_decompressor
from ccinit.pull.documents import (
    verify_config,
    verify_encryption,
    verify_pinned,
    verify_selected,
)
from ccinit.pull.layer_file import LayerFile
from ccinit.pull.messages import (
    AcceptedImage,
    Downloaded,
    FetchBegun,
    FoundSignatures,
    PulledBlobs,
    PullLimits,
    PullRequest,
    layer_file,
)
from ccinit.pull.registry import Registry
from ccinit.pull.sources import SourceChannel, open_source

A = TypeVar("A")

_PROGRESS_BYTES = 16 << 20


class FetchChannel(SourceChannel, Protocol):
    """What the job has of the outside: an empty directory for the tars, and somebody to tell."""

    def notify(self, notice: object, /) -> None:
        """Send a `FetchBegun`, a `Downloaded`, or what `SourceChannel` sends."""

    def ask(self, question: object, answer: type[A], /) -> A:
        """Put a `FoundSignatures`, and wait for the `AcceptedImage`."""


def registry_job(request: PullRequest, channel: FetchChannel) -> PulledBlobs:
    """Pull one image.

    Raises:
        CcinitError: of any family; no tar is left behind.
    """
    pinned = parse_image_reference(request.reference).digest
    with open_source(request, channel) as registry:
        return fetch_image(registry, pinned, request, channel)


def fetch_image(
    registry: Registry, pinned: Digest, request: PullRequest, channel: FetchChannel
) -> PulledBlobs:
    """Fetch the image that `pinned` names; see `registry_job`."""
    documents, manifest = _fetch_documents(registry, pinned)
    verify_encryption(manifest, request.encryption)
    if request.with_signatures:
        # Nothing else of the image is fetched unless the owner's policy accepts it; PID 1, which
        # asks another child, remembers for which documents it has.
        manifests = find_signatures(registry, documents)
        channel.ask(FoundSignatures(documents=documents, manifests=manifests), AcceptedImage)
    layer_bytes = sum(layer.blob.size for layer in manifest.layers)
    channel.notify(FetchBegun(layers=len(manifest.layers), layer_bytes=layer_bytes))
    collected = _Collected(manifest.config)
    registry.blob(manifest.config.digest, collected)
    verify_config(bytes(collected.data), manifest)
    names: list[str] = []
    try:
        downloaded = _fetch_layers(registry, manifest.layers, names, request.limits, channel)
    except BaseException:
        for name in names:
            with contextlib.suppress(OSError):  # the reason to give up is the one to tell
                os.unlink(os.path.join(channel.workspace, name))
        raise
    return PulledBlobs(
        documents=documents,
        config=bytes(collected.data),
        files=tuple(names),
        downloaded_bytes=downloaded,
    )


def _fetch_documents(registry: Registry, pinned: Digest) -> tuple[tuple[bytes, ...], Manifest]:
    """Return the manifest in use, and the documents that lead to it."""
    reply = registry.manifest(pinned)
    found = verify_pinned(reply.body, pinned, reply.header("content-type"))
    if isinstance(found, Manifest):
        return (reply.body,), found
    index = reply.body
    reply = registry.manifest(found.digest)
    manifest = verify_selected(reply.body, found, reply.header("content-type"))
    return (index, reply.body), manifest


def _fetch_layers(
    registry: Registry,
    layers: tuple[Layer, ...],
    names: list[str],
    limits: PullLimits,
    channel: FetchChannel,
) -> int:
    """Download each layer into its file; `names` gains a name before its file exists."""
    left = limits.tar_bytes
    downloaded = 0
    for position, layer in enumerate(layers):
        names.append(layer_file(position, is_encrypted=layer.encryption is not None))
        with LayerFile(os.path.join(channel.workspace, names[-1])) as file:
            download = _LayerDownload(layer, file, left, channel, downloaded)
            registry.blob(layer.blob.digest, download)
            download.finish()
            left -= file.size
        downloaded += layer.blob.size
        channel.notify(Downloaded(layer_bytes=downloaded))
    return downloaded


class _Collected:
    """A small blob in memory; `verify_config` checks it."""

    def __init__(self, expected: Descriptor) -> None:
        self._expected = expected
        self.data = bytearray()

    @property
    def received_bytes(self) -> int:
        return len(self.data)

    @property
    def missing_bytes(self) -> int:
        return self._expected.size - len(self.data)

    def feed(self, data: bytes) -> None:
        if len(data) > self.missing_bytes:
            raise VerificationError("pull.blob_size", f"longer than {self._expected.size} bytes")
        self.data += data

    def restart(self) -> None:
        self.data.clear()


class _LayerDownload:
    """Bytes of a layer blob on their way: hashed, decompressed unless encrypted, written."""

    def __init__(
        self, layer: Layer, file: LayerFile, max_bytes: int, channel: FetchChannel, before: int
    ) -> None:
        self._layer = layer
        self._file = file
        self._limit = OutputLimit(max_bytes=max_bytes)
        self._channel = channel
        self._before = before
        self._told = 0
        self._verifier, self._decompressor = self._begin()

    @property
    def received_bytes(self) -> int:
        return self._verifier.received_bytes

    @property
    def missing_bytes(self) -> int:
        return self._verifier.missing_bytes

    def feed(self, data: bytes) -> None:
        self._verifier.feed(data)
        self._decompressor.feed(data)
        if self.received_bytes - self._told >= _PROGRESS_BYTES:
            self._told = self.received_bytes
            self._channel.notify(Downloaded(layer_bytes=self._before + self._told))

    def restart(self) -> None:
        self._file.clear()
        self._told = 0
        self._verifier, self._decompressor = self._begin()

    def finish(self) -> None:
        self._verifier.finish()
        self._decompressor.finish()

    def _begin(self) -> tuple[BlobVerifier, Decompressor]:
        is_plain = self._layer.encryption is None
        compression = self._layer.compression if is_plain else Compression.NONE
        decompressor = make_decompressor(compression, self._file.write, self._limit)
        return BlobVerifier(self._layer.blob), decompressor
