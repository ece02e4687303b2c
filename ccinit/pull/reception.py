"""From the registry to verified tars: what PID 1 does between children that work at the same time.

    registry ──blobs──▶ unpack ──tars──▶ layers ──▶ scratch
    registry ──blobs──▶ file, then file ──decrypt──▶ unpack ──tars──▶ layers      if encrypted

Bytes go from child to child by pipe and never back. Each child asks nothing of the one before but
bytes, and the last one, which has neither network nor decompressors, hashes them. Nothing is on
scratch that this child has not written, and nothing is indexed before it has ended well.
"""

from collections.abc import Callable, Coroutine
from typing import Protocol, TypeVar

from ccinit.errors import ChildError
from ccinit.formats.oci_reference import parse_image_reference
from ccinit.kernel.event_loop import Event, TaskGroup
from ccinit.pull.encrypted_layers import DecryptChildren, decrypt_layers
from ccinit.pull.layer_stream import NEIGHBOUR_ENDED
from ccinit.pull.messages import (
    FoundImage,
    LayersRequest,
    PulledBlobs,
    PullRequest,
    UnpackReply,
    UnpackRequest,
    VerifiedLayers,
)
from ccinit.pull.verdict import Decide, Verdict

T = TypeVar("T")
Begin = Callable[[FoundImage], None]


class ReceivingChildren(DecryptChildren, Protocol):
    """Those of a pull that pass layers on; each call starts one and buries it."""

    async def fetch(self, request: PullRequest, decide: Decide, begin: Begin) -> PulledBlobs:
        """Run `fetch.registry_job`.

        `decide` answers its question about signatures, `begin` hears its question about the image,
        which is answered with the pipe, or the file if the image is encrypted.
        """

    async def unpack(self, request: UnpackRequest) -> UnpackReply:
        """Run `unpack.unpack_job` between the pipes."""

    async def verify(self, request: LayersRequest) -> VerifiedLayers:
        """Run `verify.layers_job` at the last pipe."""


async def receive_layers(
    request: PullRequest, verdict: Verdict, children: ReceivingChildren
) -> VerifiedLayers:
    """Have the image's layers downloaded, decrypted, decompressed, verified and written.

    Raises:
        CcinitError: of any family; all children have ended.
    """
    reception = _Reception(request, verdict, children)
    async with TaskGroup() as group:
        group.start(reception.keep(reception.send), "send layers")
        group.start(reception.keep(reception.unpack), "unpack layers")
        verified = group.start(reception.keep(reception.verify), "verify layers")
    return reception.conclude(verified.result)


class _Reception:
    def __init__(self, request: PullRequest, verdict: Verdict, children: ReceivingChildren) -> None:
        self._request = request
        self._verdict = verdict
        self._children = children
        self._found: FoundImage | None = None
        self._has_begun = Event()
        self._left_alone: list[ChildError] = []

    async def send(self) -> None:
        await self._children.fetch(self._request, self._verdict.decide, self._begin)
        if self._found is None:
            raise ChildError("child.protocol", "an image without its documents")
        if self._found.is_encrypted:
            await decrypt_layers(self._request, self._found, self._children)

    async def unpack(self) -> None:
        found = await self._image()
        limits = self._request.limits
        await self._children.unpack(UnpackRequest(layers=found.layers, tar_bytes=limits.tar_bytes))

    async def verify(self) -> VerifiedLayers:
        found = await self._image()
        return await self._children.verify(
            LayersRequest(
                pinned=parse_image_reference(self._request.reference).digest,
                documents=found.documents,
                config=found.config,
                encryption=self._request.encryption,
                tar_bytes=self._request.limits.tar_bytes,
            )
        )

    async def keep(self, part: Callable[[], Coroutine[object, None, T]]) -> T | None:
        """Run one part. If it fails for its neighbour's end, the neighbour has the reason."""
        try:
            return await part()
        except ChildError as error:
            if error.reason != NEIGHBOUR_ENDED:
                raise
            self._left_alone.append(error)
            return None

    def conclude(self, verified: VerifiedLayers | None) -> VerifiedLayers:
        """Return what came out of it, unless a child has ended without saying why."""
        if self._left_alone:
            raise self._left_alone[0]
        if verified is None:
            raise RuntimeError("nothing was verified, and nothing failed")
        return verified

    def _begin(self, found: FoundImage) -> None:
        if self._found is not None:
            raise ChildError("child.protocol", "a second image")
        self._verdict.verify_documents(found.documents)
        self._found = found
        self._has_begun.set()

    async def _image(self) -> FoundImage:
        await self._has_begun.wait()
        if self._found is None:
            raise RuntimeError("begun without an image")
        return self._found
