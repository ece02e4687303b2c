"""The job of the `registry` child: one image, from the registry into a pipe.

It has the network and nothing else: no files, no keys. Blobs are passed on as they come, compressed
or encrypted; the children that decode them have no network. Every digest of what is downloaded is
checked here, but the rest of the guest still considers it unverified, and hashes it again in a
child that never had a network (`layers.verify`).
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from ccinit.errors import ChildError, DeadlineError, PeerError, VerificationError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.oci.image import Descriptor, Layer
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.kernel.clock import boottime
from ccinit.pull.blob import BlobVerifier
from ccinit.pull.documents import verify_config, verify_encryption
from ccinit.pull.layers.stream import LayerWriter
from ccinit.pull.messages.fetch import (
    AcceptedImage,
    Downloaded,
    FetchBegun,
    FoundImage,
    FoundSignatures,
    PulledBlobs,
    PullRequest,
    SendLayers,
)
from ccinit.pull.registry.attachments import find_signatures
from ccinit.pull.registry.client import Registry
from ccinit.pull.registry.sources import SourceChannel, fetch_documents, open_source

A = TypeVar("A")

_PROGRESS_BYTES = 16 << 20
_DEADLINE_REASONS = frozenset(("net.deadline", "registry.deadline"))
"""They do not tell what used the time up: while a disk accepts no data, nothing is read, either."""


class FetchChannel(SourceChannel, Protocol):
    """The job's connection to the outside: notices and questions to PID 1."""

    def notify(self, notice: object, /) -> None:
        """Send a `FetchBegun`, a `Downloaded`, or what `SourceChannel` sends."""

    def ask(self, question: object, answer: type[A], /) -> A:
        """Ask a `FoundSignatures`, and wait for the `AcceptedImage`."""

    def ask_for_fds(self, question: object, answer: type[A], /) -> tuple[A, tuple[int, ...]]:
        """Ask a `FoundImage`, and wait for `SendLayers` and the descriptor, which stays open."""


def registry_job(request: PullRequest, channel: FetchChannel) -> PulledBlobs:
    """Pull one image.

    Raises:
        CcinitError: of any family; `pull.neighbour`: the reader of the layers is gone.
    """
    pinned = parse_image_reference(request.reference).digest
    with open_source(request, channel) as registry:
        return fetch_image(registry, pinned, request, channel)


def fetch_image(
    registry: Registry, pinned: Digest, request: PullRequest, channel: FetchChannel
) -> PulledBlobs:
    """Fetch the image that `pinned` names; see `registry_job`."""
    documents, manifest = fetch_documents(registry, pinned)
    verify_encryption(manifest, request.encryption)
    if request.with_signatures:
        # Nothing else of the image is fetched unless the owner's policy accepts it; PID 1 has
        # another child decide, and remembers which documents were accepted.
        manifests = find_signatures(registry, documents)
        channel.ask(FoundSignatures(documents=documents, manifests=manifests), AcceptedImage)
    collected = _Collected(manifest.config)
    registry.blob(manifest.config.digest, collected)
    verify_config(bytes(collected.data), manifest)
    found = FoundImage(documents=documents, config=bytes(collected.data))
    answer, fds = channel.ask_for_fds(found, SendLayers)
    if len(fds) != 1:
        raise ChildError("child.protocol", f"{len(fds)} places for the layers")
    wanted = manifest.layers[answer.first :]
    layer_bytes = sum(layer.blob.size for layer in wanted)
    channel.notify(FetchBegun(layers=len(wanted), layer_bytes=layer_bytes))
    _fetch_layers(registry, wanted, LayerWriter(fds[0]), channel)
    return PulledBlobs()


def _fetch_layers(
    registry: Registry, layers: tuple[Layer, ...], sink: LayerWriter, channel: FetchChannel
) -> None:
    downloaded, began, waited_seconds = 0, boottime(), 0.0

    def pass_on(data: bytes) -> None:
        nonlocal waited_seconds
        before = boottime()
        sink.write(data)
        waited_seconds += boottime() - before

    for layer in layers:
        download = _LayerDownload(layer.blob, pass_on, channel, downloaded)
        try:
            registry.blob(layer.blob.digest, download)
        except PeerError as error:
            took_seconds = boottime() - began
            if error.reason not in _DEADLINE_REASONS or waited_seconds < took_seconds / 2:
                raise
            detail = f"layers waited {waited_seconds:.0f} of {took_seconds:.0f} s to be unpacked"
            raise DeadlineError("pull.slow", detail) from error
        download.finish()
        sink.end_layer()
        downloaded += layer.blob.size
        channel.notify(Downloaded(layer_bytes=downloaded))


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
    """Bytes of a layer blob in transit: hashed, and passed on.

    What was passed on cannot be taken back. If the blob is restarted, only bytes beyond that are
    passed on; should they not match the earlier ones, no digest will match.
    """

    def __init__(
        self, blob: Descriptor, sink: Callable[[bytes], None], channel: FetchChannel, before: int
    ) -> None:
        self._blob = blob
        self._sink = sink
        self._channel = channel
        self._before = before
        self._sent = self._reported = 0
        self._verifier = BlobVerifier(blob)

    @property
    def received_bytes(self) -> int:
        return self._verifier.received_bytes

    @property
    def missing_bytes(self) -> int:
        return self._verifier.missing_bytes

    def feed(self, data: bytes) -> None:
        known = self._sent - self.received_bytes
        self._verifier.feed(data)
        if known < len(data):
            self._sink(data[known:] if known else data)
            self._sent = self.received_bytes
        if self._sent - self._reported >= _PROGRESS_BYTES:
            self._reported = self._sent
            self._channel.notify(Downloaded(layer_bytes=self._before + self._reported))

    def restart(self) -> None:
        self._verifier = BlobVerifier(self._blob)

    def finish(self) -> None:
        self._verifier.finish()
