"""The children and the mounts of a pull of one image, played in this process."""

import gzip
import os
from pathlib import Path
from typing import TypeVar

from ccinit.errors import KernelError
from ccinit.formats.encoding.digest import parse_digest, sha256_digest
from ccinit.formats.oci.layer_encryption import ImageEncryption, LayerKey
from ccinit.kernel.event_loop import Event
from ccinit.pull.encryption.decrypt import decrypt_job
from ccinit.pull.erofs.index import IndexRequest
from ccinit.pull.image import Owners
from ccinit.pull.inspect import inspect_job
from ccinit.pull.layer_store import StoredLayer
from ccinit.pull.layers.stream import SINK, SOURCE
from ccinit.pull.layers.verify import layers_job
from ccinit.pull.messages.fetch import (
    AcceptedImage,
    FoundImage,
    FoundSignatures,
    PulledBlobs,
    PullLimits,
    PullRequest,
    SignaturePolicy,
    SignatureRequest,
)
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import (
    DecryptReply,
    DecryptRequest,
    InspectedImage,
    InspectRequest,
    LayersRequest,
    VerifiedLayers,
)
from ccinit.pull.messages.tars import KeptTar, OpenedTar, UnpackReply, UnpackRequest
from ccinit.pull.messages.tree import TreeDigests
from ccinit.pull.reception import Begin
from ccinit.pull.tar_files import TarFiles
from ccinit.pull.verdict import Decide
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.images.encrypted_image import KEY, NONCE
from tests.fakes.images.layer_pipes import LayerPipe, append_tars, give_tar
from tests.fakes.images.registry import FakeImage, make_image
from tests.fakes.images.tars import Entry, make_tar

T = TypeVar("T")

TARS = [make_tar(Entry("a", b"x")), make_tar(Entry("b", b"yy"))]
IMAGE = make_image(TARS)
REQUEST = PullRequest(
    reference=f"r.example/a@{IMAGE.digest}",
    ca_pem="",
    limits=PullLimits(tar_bytes=1 << 20, total_seconds=60),
    encryption=ImageEncryption.ALLOWED,
)
POLICY = SignaturePolicy(document=b"{}", keys=())
FOUND = FoundImage(documents=(IMAGE.manifest,), config=IMAGE.config)


class Children:
    """Play the children: each leaves what the honest one would, unless a test changes it."""

    def __init__(self, directory: Path) -> None:
        self.workspace = str(directory)
        self.directory = directory
        uid = os.geteuid()
        self.owners = Owners(index=uid, compress=uid)
        self.pinned = parse_digest(IMAGE.digest)
        self.found: tuple[FoundImage, ...] = (FOUND,)
        self.file, self.sink, self.tars = LayerPipe(), LayerPipe(), list(TARS)
        self.fds: dict[str, int] = {}
        self.has_sent = Event()
        self.has_asked_for_keys = Event()
        self.firsts: list[int] = []
        self.kept: tuple[StoredLayer, ...] = ()
        self.kept_records = 0
        self.files: TarFiles | None = None
        self.verified: VerifiedLayers | None = None
        self.order: list[str] = []
        self.asks: tuple[bytes, ...] | None = None
        self.form = LayerForm.INDEX
        self.keys: Secret | None = None  # what `decrypt` was given

    def find(self, image: FakeImage) -> PullRequest:
        """Have another image in the registry; return what is asked of these children for it."""
        self.pinned = parse_digest(image.digest)
        self.found = (FoundImage(documents=(image.manifest,), config=image.config),)
        return replace(REQUEST, reference=f"r.example/a@{image.digest}")

    async def fetch(self, _request: PullRequest, decide: Decide, begin: Begin) -> PulledBlobs:
        self.order.append("fetch")
        if self.asks is not None:
            await decide(FoundSignatures(documents=self.asks, manifests=()))
        for found in self.found:
            sending = await begin(found)
            self.firsts.append(sending.first)
            if sending.to_file:
                await self.has_asked_for_keys.wait()  # they are opened meanwhile
            else:
                self.has_sent.set()
        return PulledBlobs()

    async def inspect(self, request: InspectRequest) -> InspectedImage:
        self.order.append("inspect")
        return inspect_job(request, self)

    async def open_keys(self, image: InspectedImage) -> tuple[LayerKey, ...]:
        self.order.append("keys")
        self.has_asked_for_keys.set()
        return tuple(LayerKey(key=KEY, nonce=NONCE) for _layer in image.encrypted)

    async def decrypt(self, request: DecryptRequest, keys: Secret) -> DecryptReply:
        assert keys.reveal() == KEY + NONCE
        self.keys = keys
        self.order.append("decrypt")
        self.fds = {SOURCE: self.file.fd, SINK: self.sink.fd}
        reply = decrypt_job(request, self)
        self.tars = [gzip.decompress(layer) for layer in self.sink.layers()]
        self.has_sent.set()
        return reply

    def read_secret(self, _name: str) -> Secret:
        return Secret(KEY + NONCE)

    async def unpack(self, request: UnpackRequest, _tars: TarFiles) -> UnpackReply:
        await self.has_sent.wait()
        self.order.append("unpack")
        assert request.tar_bytes == REQUEST.limits.tar_bytes
        return UnpackReply()

    async def judge(self, request: SignatureRequest) -> AcceptedImage:
        self.order.append("judge")
        assert request.reference == REQUEST.reference
        assert request.policy == POLICY
        digests = tuple(sha256_digest(document) for document in request.found.documents)
        return AcceptedImage(documents=digests, reasons=())

    def ask_for_fds(self, question: object, answer: type[T]) -> tuple[T, tuple[int, ...]]:
        value = OpenedTar()
        assert isinstance(value, answer)
        if not isinstance(question, KeptTar):
            assert self.files is not None
            return value, give_tar(self.files, question)
        return value, (os.open(self.kept[question.position].files.tar, os.O_RDONLY),)

    async def verify(
        self, request: LayersRequest, kept: tuple[StoredLayer, ...], tars: TarFiles
    ) -> VerifiedLayers:
        await self.has_sent.wait()
        self.order.append("verify")
        assert request.image.pinned == self.pinned
        self.kept, self.files = kept, tars
        self.kept_records = request.kept_records
        words = append_tars(tars, self.tars[len(kept) :], len(kept))
        self.fds = {SOURCE: words.fd}
        self.verified = self.verified or layers_job(request, self)
        return self.verified

    async def index(self, request: IndexRequest) -> None:
        self.order.append("index")
        for arguments in request.runs:
            index = self.directory / arguments[-2].rpartition("/")[2]
            index.write_bytes(bytes(1536))

    async def compress(self, tar: str, arguments: tuple[str, ...]) -> None:
        self.order.append(f"compress {tar.rpartition('/')[2]}")
        os.close(os.open(arguments[-1], os.O_CREAT | os.O_WRONLY))

    async def walk(self, roots: tuple[str, ...], form: LayerForm) -> TreeDigests:
        self.order.append("walk")
        assert form is self.form
        assert self.verified is not None
        assert len(roots) == len(self.tars) - len(self.kept)
        return TreeDigests(listings=tuple(layer.listing for layer in self.verified.layers))


class Mounts:
    """Stand for `ccinit.kernel.mount`."""

    def __init__(self) -> None:
        self.mounted: list[str] = []
        self.calls: list[tuple[str, str, str]] = []
        self.fail_at = ""

    def mount(self, source: str, target: str, kind: str, flags: int, options: str) -> None:
        assert kind == "erofs"
        assert flags & 1
        if self.fail_at and target.endswith(self.fail_at):
            raise KernelError(22, "mount", target)
        self.calls.append((source, target, options))
        self.mounted.append(target)

    def detach(self, target: str) -> None:
        self.mounted.remove(target)


def children_of(work: Path, name: str, tars: list[bytes]) -> tuple[Children, PullRequest]:
    """The children of another image of the pod, and what is asked of them."""
    (work / name).mkdir()
    children = Children(work / name)
    children.tars = tars
    return children, children.find(make_image(tars))
