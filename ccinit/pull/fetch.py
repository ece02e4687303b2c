"""The job of the `registry` child: one image, from the registry to tars on scratch.

It owns the network and nothing else: it writes below one directory and answers with documents and
file names. Every digest of what is downloaded is checked here, and what was made from bytes that
turn out wrong is removed; yet all of it is unverified to the rest of the guest, which hashes again
in a child that never saw the network (`index`).
"""

import contextlib
import errno
import os
from typing import Protocol, Self

from ccinit.errors import KernelError, LimitExceededError, VerificationError
from ccinit.formats.digest import Digest
from ccinit.formats.oci_image import Descriptor, Layer, Manifest
from ccinit.formats.oci_reference import parse_image_reference
from ccinit.net.http import HttpClient
from ccinit.net.tls import pinned_context
from ccinit.pull.blob import BlobVerifier
from ccinit.pull.decompress import Decompressor, OutputLimit, make_decompressor
from ccinit.pull.documents import verify_config, verify_pinned, verify_selected
from ccinit.pull.messages import Downloaded, PulledBlobs, PullLimits, PullRequest
from ccinit.pull.registry import Registry, RegistryLimits
from ccinit.pull.registry_auth import find_credential

_FILE_MODE = 0o600
_PROGRESS_BYTES = 16 << 20


class FetchChannel(Protocol):
    """What the job has of the outside: an empty directory for the tars, and somebody to tell."""

    @property
    def workspace(self) -> str:
        """The path of the directory."""

    def notify(self, notice: object, /) -> None:
        """Send a `Downloaded`."""


def registry_job(request: PullRequest, channel: FetchChannel) -> PulledBlobs:
    """Pull one image.

    Raises:
        CcinitError: of any family; no tar is left behind.
    """
    reference = parse_image_reference(request.reference)
    credential = find_credential(request.auth, reference) if request.auth else None
    patience = RegistryLimits(total_seconds=request.limits.total_seconds)
    with HttpClient(pinned_context(request.ca_pem, check_time=True)) as http:
        registry = Registry(http, reference, credential, patience)
        return fetch_image(registry, reference.digest, request.limits, channel)


def fetch_image(
    registry: Registry, pinned: Digest, limits: PullLimits, channel: FetchChannel
) -> PulledBlobs:
    """Fetch the image that `pinned` names; see `registry_job`."""
    reply = registry.manifest(pinned)
    documents = [reply.body]
    manifest = verify_pinned(reply.body, pinned, reply.header("content-type"))
    if not isinstance(manifest, Manifest):
        selected = manifest
        reply = registry.manifest(selected.digest)
        documents.append(reply.body)
        manifest = verify_selected(reply.body, selected, reply.header("content-type"))
    collected = _Collected(manifest.config)
    registry.blob(manifest.config.digest, collected)
    verify_config(bytes(collected.data), manifest)
    names: list[str] = []
    try:
        downloaded = _fetch_layers(registry, manifest.layers, names, limits, channel)
    except BaseException:
        for name in names:
            with contextlib.suppress(OSError):  # the reason to give up is the one to tell
                os.unlink(os.path.join(channel.workspace, name))
        raise
    return PulledBlobs(
        documents=tuple(documents),
        config=bytes(collected.data),
        tars=tuple(names),
        downloaded_bytes=downloaded,
    )


def _fetch_layers(
    registry: Registry,
    layers: tuple[Layer, ...],
    names: list[str],
    limits: PullLimits,
    channel: FetchChannel,
) -> int:
    """Download each layer into its tar; `names` gains a name before its file exists."""
    left = limits.tar_bytes
    downloaded = 0
    for position, layer in enumerate(layers):
        names.append(f"layer-{position}.tar")
        with _TarFile(os.path.join(channel.workspace, names[-1])) as tar:
            download = _LayerDownload(layer, tar, left, channel, downloaded)
            registry.blob(layer.blob.digest, download)
            download.finish()
            left -= tar.size
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


class _TarFile:
    """A new file for one layer's tar."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(path, flags, _FILE_MODE)
        except OSError as error:
            raise KernelError(error.errno or 0, "open", path) from error
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        os.close(self._fd)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise LimitExceededError("pull.enospc", "the scratch disk is full") from error
            raise KernelError(error.errno or 0, "write", self._path) from error
        self.size += len(data)

    def clear(self) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self.size = 0


class _LayerDownload:
    """Bytes of a layer blob on their way: hashed, decompressed, written."""

    def __init__(
        self, layer: Layer, tar: _TarFile, max_bytes: int, channel: FetchChannel, before: int
    ) -> None:
        self._layer = layer
        self._tar = tar
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
        self._tar.clear()
        self._told = 0
        self._verifier, self._decompressor = self._begin()

    def finish(self) -> None:
        self._verifier.finish()
        self._decompressor.finish()

    def _begin(self) -> tuple[BlobVerifier, Decompressor]:
        decompressor = make_decompressor(self._layer.compression, self._tar.write, self._limit)
        return BlobVerifier(self._layer.blob), decompressor
