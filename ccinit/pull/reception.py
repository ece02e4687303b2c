"""From the registry to verified tars: how PID 1 runs children that work at the same time.

    registry ──blobs──▶ unpack ──tars──▶ layers
    registry ──blobs──▶ file, then file ──decrypt──▶ unpack ──tars──▶ layers      if encrypted

1. `registry` finds the image; if a policy wants signatures, `signature` judges them (`verdict`);
2. `inspect` reads the documents, the image claims those of its layers that no other makes, and
   waits for the others: that is the plan;
3. if layers are encrypted, their keys are opened while they are downloaded;
4. layers go from child to child, each at work on what the one before it has passed on, and from
   the file once all of them are in it;
5. once all children have ended, no tar may have grown since it was verified.

Bytes flow in one direction: blobs through pipes, tars through files that `unpack` can only append
to (`tar_files`). Each child gets only bytes from the one before, and the last one, which has
neither a network nor decompressors, hashes them. Nothing is indexed before it has succeeded. No
child with a layer's key has a network, and the child that speaks to the registry has no key.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Protocol, TypeVar

from ccinit.errors import ChildError
from ccinit.formats.oci.layer_encryption import LayerKey, join_keys
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.kernel.event_loop import Task, TaskGroup
from ccinit.kernel.promise import Promise
from ccinit.pull.layer_store import Claim, LayerFiles, LayerStore, StoredLayer, claim_alone
from ccinit.pull.layers.stream import NEIGHBOUR_ENDED
from ccinit.pull.messages.fetch import FoundImage, PulledBlobs, PullRequest
from ccinit.pull.messages.layers import (
    DecryptReply,
    DecryptRequest,
    InspectedImage,
    InspectRequest,
    LayersRequest,
    VerifiedLayers,
)
from ccinit.pull.messages.tars import UnpackReply, UnpackRequest
from ccinit.pull.tar_files import TarFiles
from ccinit.pull.verdict import Decide, Verdict
from ccinit.secret import Secret
from ccinit.values import frozen

T = TypeVar("T")


@frozen
class Sending:
    """What the registry child is to send.

    Attributes:
        first: position of the first layer that is wanted.
        to_file: whether into a file instead of the pipe, because some are encrypted.
    """

    first: int
    to_file: bool


Begin = Callable[[FoundImage], Awaitable[Sending]]


class ReceivingChildren(Protocol):
    """The children of a pull that pass layers on; each call starts one and reaps it."""

    async def fetch(self, request: PullRequest, decide: Decide, begin: Begin) -> PulledBlobs:
        """Run `registry.fetch.registry_job`.

        `decide` answers its question about signatures, `begin` that about the image.
        """

    async def inspect(self, request: InspectRequest) -> InspectedImage:
        """Run `inspect.inspect_job`."""

    async def open_keys(self, image: InspectedImage) -> tuple[LayerKey, ...]:
        """Return the keys of the image's encrypted layers, in their order, or raise.

        The KBS's keys unwrap them, each in a run of `encryption.unwrap.unwrap_job` of its own.
        """

    async def decrypt(self, request: DecryptRequest, keys: Secret) -> DecryptReply:
        """Run `encryption.decrypt.decrypt_job` on what was downloaded, with `keys` in its pipe."""

    async def unpack(self, request: UnpackRequest, tars: TarFiles) -> UnpackReply:
        """Run `layers.unpack.unpack_job` between the pipes; `tars` are those it may ask for."""

    async def verify(
        self, request: LayersRequest, kept: tuple[StoredLayer, ...], tars: TarFiles
    ) -> VerifiedLayers:
        """Run `layers.verify.layers_job` at the last pipe; it may ask for `kept` and `tars`."""


@frozen
class Received:
    """An image's verified layers.

    Attributes:
        kept: those that were there already, bottom first.
        verified: those above.
        claim: by which others wait for these.
    """

    kept: tuple[StoredLayer, ...]
    verified: VerifiedLayers
    claim: Claim

    def share(self, files: Sequence[LayerFiles]) -> None:
        """Hand the verified layers to other images, now that their files are mounted."""
        self.claim.fulfil(
            [
                StoredLayer(files=one, passed=passed)
                for one, passed in zip(files, self.verified.layers, strict=True)
            ]
        )


@frozen
class _Plan:
    image: InspectRequest
    inspected: InspectedImage
    claim: Claim
    kept: tuple[StoredLayer, ...]
    tars: TarFiles


async def receive_layers(
    request: PullRequest,
    directory: str,
    verdict: Verdict,
    store: LayerStore,
    children: ReceivingChildren,
) -> Received:
    """Have those of the image's layers that nobody has downloaded, verified and written.

    Raises:
        CcinitError: of any family; all children have ended.
    """
    reception = _Reception(request, directory, verdict, store, children)
    async with TaskGroup() as group:
        keys = group.start(reception.open_keys(), "open layer keys")
        group.start(reception.run_part(partial(reception.send, keys)), "send layers")
        group.start(reception.run_part(reception.unpack), "unpack layers")
        verified = group.start(reception.run_part(reception.verify), "verify layers")
    return await reception.conclude(verified.result)


class _Reception:
    def __init__(
        self,
        request: PullRequest,
        directory: str,
        verdict: Verdict,
        store: LayerStore,
        children: ReceivingChildren,
    ) -> None:
        self._request = request
        self._directory = directory
        self._verdict = verdict
        self._store = store
        self._children = children
        self._has_begun = False
        self._plan: Promise[_Plan] = Promise()
        # Kept when layers come: at once, or once they can be decrypted.
        self._arrival: Promise[_Plan] = Promise()
        self._neighbour_errors: list[ChildError] = []

    async def send(self, keys: Task[tuple[LayerKey, ...]]) -> None:
        """Steps 1 and 4: download the layers, then decrypt them if some are encrypted."""
        await self._children.fetch(self._request, self._verdict.decide, self._begin)
        if not self._plan.is_kept:
            raise ChildError("child.protocol", "an image without its documents")
        plan = await self._plan.value()
        inspected = plan.inspected
        if inspected.encrypted:
            opened = await keys.join()
            self._arrival.keep(plan)
            request = DecryptRequest(layers=len(inspected.layers), encrypted=inspected.encrypted)
            with Secret(join_keys(opened)) as secret:
                await self._children.decrypt(request, secret)

    async def _begin(self, found: FoundImage) -> Sending:
        """Step 2, which `registry` waits for."""
        if self._has_begun:
            raise ChildError("child.protocol", "a second image")
        self._has_begun = True
        image = InspectRequest(
            pinned=parse_image_reference(self._request.reference).digest,
            documents=self._verdict.verify_documents(found.documents),
            config=found.config,
            encryption=self._request.encryption,
        )
        inspected = await self._children.inspect(image)
        # An encrypted image's layers are always decrypted with its own keys, never shared.
        claim_layers = claim_alone if inspected.encrypted else self._store.claim
        claim = claim_layers(inspected.diff_ids)
        kept = await claim.wait()
        coming = range(len(kept), len(inspected.diff_ids))
        tars = TarFiles(self._directory, coming, self._store.form)
        plan = _Plan(image=image, inspected=inspected, claim=claim, kept=kept, tars=tars)
        self._plan.keep(plan)
        if not inspected.encrypted:
            self._arrival.keep(plan)
        return Sending(first=len(kept), to_file=bool(inspected.encrypted))

    async def open_keys(self) -> tuple[LayerKey, ...]:
        """Step 3."""
        inspected = (await self._plan.value()).inspected
        return await self._children.open_keys(inspected) if inspected.encrypted else ()

    async def unpack(self) -> None:
        """Step 4, once layers come."""
        plan = await self._arrival.value()
        first = len(plan.kept)
        request = UnpackRequest(
            layers=plan.inspected.layers[first:],
            first=first,
            tar_bytes=self._request.limits.tar_bytes,
        )
        await self._children.unpack(request, plan.tars)

    async def verify(self) -> VerifiedLayers:
        """Step 4, the end of it."""
        plan = await self._arrival.value()
        request = LayersRequest(
            image=plan.image,
            tar_bytes=self._request.limits.tar_bytes,
            kept=len(plan.kept),
            kept_records=sum(layer.passed.records for layer in plan.kept),
            form=self._store.form,
        )
        return await self._children.verify(request, plan.kept, plan.tars)

    async def run_part(self, part: Callable[[], Coroutine[object, None, T]]) -> T | None:
        """Run one part; if it fails because a neighbour ended, the neighbour has the reason.

        Whoever says so has ended, and with it its ends of the pipes, so the others end, too. Before
        layers come nobody has a neighbour, and the others wait for layers.
        """
        try:
            return await part()
        except ChildError as error:
            if error.reason != NEIGHBOUR_ENDED:
                raise
            if not self._arrival.is_kept:
                detail = "the end of a neighbour is told by a child that has none yet"
                raise ChildError("child.protocol", detail) from error
            self._neighbour_errors.append(error)
            return None

    async def conclude(self, verified: VerifiedLayers | None) -> Received:
        """Step 5, unless a child has ended without saying why."""
        if self._neighbour_errors:
            raise self._neighbour_errors[0]
        if verified is None:
            raise RuntimeError("nothing was verified, and nothing failed")
        plan = await self._plan.value()
        plan.tars.verify_sizes(verified.layers)
        return Received(kept=plan.kept, verified=verified, claim=plan.claim)
