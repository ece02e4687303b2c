"""The children of one pull: which role does what, and the pipes between them."""

import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, ExitStack, closing
from typing import Self

from ccinit.agent.guest import Guest
from ccinit.agent.phases.reception_children import ReceptionChildren, prepare_with
from ccinit.agent.processes.channel import printable
from ccinit.agent.processes.children import PreparedChild
from ccinit.agent.processes.conversation import Answer
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.agent.processes.secret_pipes import fill_pipe
from ccinit.errors import ChildError
from ccinit.formats.oci.layer_encryption import LayerKey
from ccinit.formats.pod.manifest import Image
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.event_loop import TaskGroup
from ccinit.kernel.libc import kernel_error, open_path
from ccinit.kernel.pipes import open_pipes
from ccinit.pull.erofs.index import IndexReply, IndexRequest
from ccinit.pull.image import Owners
from ccinit.pull.layer_store import StoredLayer
from ccinit.pull.layers.stream import NEIGHBOUR_ENDED, SINK, SOURCE, open_pipe
from ccinit.pull.messages.feed import FedTar, FeedRequest
from ccinit.pull.messages.fetch import (
    AcceptedImage,
    Downloaded,
    FetchBegun,
    FoundImage,
    FoundSignatures,
    PulledBlobs,
    PullRequest,
    SendLayers,
    SignatureRequest,
    SourceFailed,
)
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import (
    KEYS_PIPE,
    DecryptReply,
    DecryptRequest,
    InspectedImage,
    InspectRequest,
    LayersRequest,
    VerifiedLayers,
)
from ccinit.pull.messages.tars import (
    GrowingTar,
    KeptTar,
    NewTar,
    OpenedTar,
    UnpackReply,
    UnpackRequest,
)
from ccinit.pull.messages.tree import (
    LISTING_PARTS,
    TreeDigests,
    TreeRequest,
    join_parts,
    share_parts,
)
from ccinit.pull.reception import Begin
from ccinit.pull.tar_files import TarFiles
from ccinit.pull.verdict import Decide
from ccinit.secret import Secret

OpenKeys = Callable[[InspectedImage], Coroutine[object, None, tuple[LayerKey, ...]]]
"""Unwraps the keys of an image's layers with the KBS's keys."""

_JUDGE_SECONDS = 60.0


class ImageChildren:
    """See `ccinit.pull.image.PullChildren`; a context to enter for one pull.

    Children whose input comes later are started ahead, to load their code meanwhile: those that
    receive the image before it is requested (they belong to `reception_children`), the one that
    decrypts it while it is downloaded, the one for the index while the last tar is read, those for
    the mounts while the index is made.
    """

    def __init__(
        self,
        guest: Guest,
        image: Image,
        directory: str,
        reception: ReceptionChildren,
        open_keys: OpenKeys,
        *,
        seconds: float,
        form: LayerForm = LayerForm.INDEX,
    ) -> None:
        self._guest = guest
        self._image = image
        self._directory = directory
        self._reception = reception
        self._open_keys = open_keys
        self._seconds = seconds
        self._form = form
        self._stack = AsyncExitStack()
        self._encrypted: Descriptor | None = None
        self._decrypt: tuple[PreparedChild, Descriptor] | None = None
        self._index: PreparedChild | None = None
        self._walkers: list[PreparedChild] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def owners(self) -> Owners:
        """The children's user ids."""
        return Owners(index=RIGHTS[Role.INDEX].uid, compress=RIGHTS[Role.COMPRESS].uid)

    async def fetch(self, request: PullRequest, decide: Decide, begin: Begin) -> PulledBlobs:
        """Download; progress is logged for the owner."""

        async def answer(found: FoundSignatures) -> Answer:
            return Answer(value=await decide(found))

        async def send(found: FoundImage) -> Answer:
            sending = await begin(found)
            if sending.first:
                kept = f"{sending.first} layers are there already"
                self._guest.event(f"image {self._image.name}: {kept}")
            if sending.to_file:
                sink = self._open_unnamed()
            else:
                sink = self._reception.pipes.blobs_in.take()
            return Answer(value=SendLayers(first=sending.first), fds=(sink,))

        return await self._reception.registry.run(
            request,
            PulledBlobs,
            seconds=self._seconds,
            answers={FoundSignatures: answer, FoundImage: send},
            notices={
                SourceFailed: self._source_failed,
                FetchBegun: self._fetch_begun,
                Downloaded: self._progress,
            },
        )

    async def inspect(self, request: InspectRequest) -> InspectedImage:
        """Read the image's documents, in a child without a network."""
        return await self._reception.inspect.run(request, InspectedImage, seconds=self._seconds)

    async def open_keys(self, image: InspectedImage) -> tuple[LayerKey, ...]:
        """Unwrap the layers' keys with the KBS's keys; then start who will decrypt the layers."""
        keys = await self._open_keys(image)
        self._decrypt = await self._prepare_decrypt()
        return keys

    async def decrypt(self, request: DecryptRequest, keys: Secret) -> DecryptReply:
        """Decrypt the layers that were downloaded into a file."""
        if self._decrypt is None:
            raise RuntimeError("no keys were opened")
        child, pipe = self._decrypt
        fill_pipe(pipe.take(), keys)
        return await child.run(request, DecryptReply, seconds=self._seconds)

    async def unpack(self, request: UnpackRequest, tars: TarFiles) -> UnpackReply:
        """Decompress the layers."""

        async def answer(question: NewTar) -> Answer:
            return Answer(value=OpenedTar(), fds=tars.open_to_append(question.position))

        unpack = self._reception.unpack or await self._prepare(
            Role.UNPACK, self._reception.pipes.of_unpack
        )
        reply = await unpack.run(
            request, UnpackReply, seconds=self._seconds, answers={NewTar: answer}
        )
        if self._form is LayerForm.INDEX:
            self._index = await self._prepare_for_files(Role.INDEX)
        return reply

    async def judge(self, request: SignatureRequest) -> AcceptedImage:
        """Judge the signatures by the policy."""
        accepted = await self._guest.children.run(
            Role.SIGNATURE, request, AcceptedImage, seconds=_JUDGE_SECONDS
        )
        reasons = printable("; ".join(accepted.reasons))
        self._guest.event(f"image {self._image.name}: the policy accepts it: {reasons}")
        return accepted

    async def verify(
        self, request: LayersRequest, kept: tuple[StoredLayer, ...], tars: TarFiles
    ) -> VerifiedLayers:
        """Hash, read and complete the tars."""

        async def give_kept(question: KeptTar) -> Answer:
            if not 0 <= question.position < len(kept):
                raise ChildError("child.protocol", "a tar that is not there")
            tar = kept[question.position].files.tar
            return Answer(value=OpenedTar(), fds=(open_path(tar, os.O_RDONLY | os.O_NOFOLLOW),))

        async def give(question: GrowingTar) -> Answer:
            return Answer(value=OpenedTar(), fds=tars.open_to_verify(question.position))

        layers = self._reception.layers or await self._prepare(
            Role.LAYERS, self._reception.pipes.of_layers
        )
        return await layers.run(
            request,
            VerifiedLayers,
            seconds=self._seconds,
            answers={KeptTar: give_kept, GrowingTar: give},
        )

    async def index(self, request: IndexRequest) -> None:
        """Run mkfs.erofs over each tar."""
        if self._index is None:
            raise RuntimeError("no tar was decompressed")
        async with TaskGroup() as group:
            index = self._index.run(request, IndexReply, seconds=self._seconds)
            group.start(index, "index layers")
            group.start(self._prepare_walkers(), "start walkers")

    async def compress(self, tar: str, arguments: tuple[str, ...]) -> None:
        """Run mkfs.erofs on a tar that is piped to it, and freed as it is read."""
        children = self._guest.children
        async with AsyncExitStack() as stack:
            with ExitStack() as passed_on:  # so that either child notices when the other ends
                file = open_path(tar, os.O_RDWR | os.O_NOFOLLOW)
                passed_on.callback(os.close, file)
                source, sink = open_pipe()
                passed_on.callback(os.close, source)
                passed_on.callback(os.close, sink)
                feed = await stack.enter_async_context(
                    children.prepare(Role.FEED, fds={SOURCE: file, SINK: sink})
                )
                program = await stack.enter_async_context(
                    children.prepare_program(Role.COMPRESS, workspace=self._directory, stdin=source)
                )
            async with TaskGroup() as group:
                fed = group.start(self._feed(feed), "feed a tar")
                ended = group.start(program.run(arguments, seconds=self._seconds), "compress it")
            end = await ended.join()
            if not end.status.is_success():
                raise ChildError("pull.index", f"mkfs.erofs: {end.status}: {end.output}")
            if end.output:
                raise ChildError("pull.index", f"mkfs.erofs complains: {end.output}")
            if await fed.join() is None:
                raise ChildError("pull.index", "mkfs.erofs has not read the whole tar")

    async def _feed(self, child: PreparedChild) -> FedTar | None:
        """Feed the tar; return None if mkfs.erofs ended early, since it has the reason."""
        try:
            return await child.run(FeedRequest(), FedTar, seconds=self._seconds)
        except ChildError as error:
            if error.reason != NEIGHBOUR_ENDED:
                raise
            return None

    async def walk(self, roots: tuple[str, ...], form: LayerForm) -> TreeDigests:
        """List the mounted layers in parallel, by at most one child per part and processor."""
        if not self._walkers:
            await self._prepare_walkers()
        walkers = self._walkers
        async with TaskGroup() as group:
            walks = [
                group.start(
                    walker.run(
                        TreeRequest(roots=roots, parts=parts, form=form),
                        TreeDigests,
                        seconds=self._seconds,
                    ),
                    "walk layers",
                )
                for walker, parts in zip(walkers, share_parts(len(walkers)), strict=True)
            ]
        return join_parts([await walk.join() for walk in walks])

    async def _prepare(self, role: Role, ends: Mapping[str, Descriptor]) -> PreparedChild:
        return await prepare_with(self._stack, self._guest.children, role, ends)

    async def _prepare_decrypt(self) -> tuple[PreparedChild, Descriptor]:
        """Return the child, and the end of the pipe by which it will get the keys."""
        if self._encrypted is None:
            raise RuntimeError("nothing is downloaded into a file")
        (pipe,) = open_pipes(1)
        keys = self._stack.enter_context(closing(Descriptor(pipe.writer)))
        ends = {
            SOURCE: self._encrypted,
            SINK: self._reception.pipes.blobs_in,
            KEYS_PIPE: Descriptor(pipe.reader),
        }
        return await self._prepare(Role.DECRYPT, ends), keys

    async def _prepare_walkers(self) -> None:
        for _walker in range(min(LISTING_PARTS, len(os.sched_getaffinity(0)))):
            self._walkers.append(await self._prepare_for_files(Role.TREE))

    async def _prepare_for_files(self, role: Role) -> PreparedChild:
        prepared = self._guest.children.prepare(role, fds={}, workspace=self._directory)
        return await self._stack.enter_async_context(prepared)

    def _open_unnamed(self) -> int:
        """Return an unnamed file for encrypted layers, keeping another fd of it."""
        try:
            file = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            self._encrypted = self._stack.enter_context(closing(Descriptor(file)))
            return os.dup(file)
        except OSError as error:
            raise kernel_error(error, "open", self._directory) from error

    def _source_failed(self, notice: SourceFailed) -> None:
        text = printable(f"{notice.reference}: {notice.error}")
        self._guest.event(f"image {self._image.name}: passed over {text}")

    def _fetch_begun(self, notice: FetchBegun) -> None:
        size = f"{notice.layers} layers of {notice.layer_bytes} bytes"
        self._guest.event(f"image {self._image.name}: {size} to fetch")

    def _progress(self, notice: Downloaded) -> None:
        self._guest.event(f"image {self._image.name}: {notice.layer_bytes} bytes of layers")
