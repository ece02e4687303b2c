"""Runs a pull natively: the guest's own jobs in this process, mkfs.erofs from the tools tree.

Needs root: it mounts erofs and overlay. What the agent adds in the guest (own processes, own users,
filters) has its own tests.
"""

import hashlib
import os
import stat
import subprocess
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import TypeVar, cast

from ccinit.agent.phases.image_keys import select_wraps
from ccinit.errors import ChildError, VerificationError
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.oci.layer_encryption import ImageEncryption, LayerKey
from ccinit.formats.oci.registries import RegistryRule
from ccinit.kernel.event_loop import Event, EventLoop
from ccinit.kernel.mount import detach
from ccinit.kernel.overlay import mount_overlay
from ccinit.pull.encryption.decrypt import decrypt_job
from ccinit.pull.encryption.unwrap import unwrap_job
from ccinit.pull.erofs.feed import feed_job
from ccinit.pull.erofs.index import IndexRequest
from ccinit.pull.erofs.walk import tree_job
from ccinit.pull.image import Owners, PulledImage, pull_image, unmount_layers
from ccinit.pull.inspect import inspect_job
from ccinit.pull.layer_store import LayerStore, StoredLayer
from ccinit.pull.layers.stream import SINK, SOURCE
from ccinit.pull.layers.unpack import unpack_job
from ccinit.pull.layers.verify import layers_job
from ccinit.pull.messages.feed import FeedRequest
from ccinit.pull.messages.fetch import (
    AUTH_PIPE,
    AcceptedImage,
    Downloaded,
    FetchBegun,
    FoundImage,
    FoundSignatures,
    PulledBlobs,
    PullLimits,
    PullRequest,
    SendLayers,
    SignaturePolicy,
    SignatureRequest,
    SourceFailed,
)
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import (
    DecryptReply,
    DecryptRequest,
    InspectedImage,
    InspectRequest,
    LayersRequest,
    UnwrapRequest,
    VerifiedLayers,
)
from ccinit.pull.messages.tars import KeptTar, OpenedTar, UnpackReply, UnpackRequest
from ccinit.pull.messages.tree import TreeDigests, TreeRequest, join_parts, share_parts
from ccinit.pull.reception import Begin, Sending
from ccinit.pull.registry.fetch import registry_job
from ccinit.pull.signature.judge import signature_job
from ccinit.pull.tar_files import TarFiles
from ccinit.pull.verdict import Decide
from ccinit.secret import Secret
from tests.fakes.images.layer_pipes import LayerPipe, give_tar
from tests.integration.pull.real_registry import TOOLS

T = TypeVar("T")
NO_KEYS: Mapping[str, bytes] = MappingProxyType({})
# The time is there to end a hang and measures nothing: a pull takes seconds on a machine of one's
# own, and minutes beside the VM tests of a loaded one. What a deadline does has tests with others.
LIMITS = PullLimits(tar_bytes=4 << 30, total_seconds=600)


@dataclass
class Channel:
    """What a job has of the outside."""

    workspace: str
    notices: list[object] = field(default_factory=list)
    secrets: dict[str, bytes] = field(default_factory=dict)
    fds: dict[str, int] = field(default_factory=dict)
    decide: Decide | None = None
    begin: Begin | None = None
    kept: tuple[StoredLayer, ...] = ()
    tars: TarFiles | None = None

    def notify(self, notice: object) -> None:
        assert isinstance(notice, Downloaded | FetchBegun | SourceFailed)
        self.notices.append(notice)

    def read_secret(self, name: str) -> Secret:
        return Secret(self.secrets.pop(name))

    def ask(self, question: object, answer: type[T]) -> T:
        assert isinstance(question, FoundSignatures)
        assert self.decide is not None
        value = drive(cast("Coroutine[object, None, AcceptedImage]", self.decide(question)))
        assert isinstance(value, answer)
        return value

    def ask_for_fds(self, question: object, answer: type[T]) -> tuple[T, tuple[int, ...]]:
        if isinstance(question, KeptTar):
            opened = OpenedTar()
            assert isinstance(opened, answer)
            return opened, (os.open(self.kept[question.position].files.tar, os.O_RDONLY),)
        if not isinstance(question, FoundImage):
            assert self.tars is not None
            opened = OpenedTar()
            assert isinstance(opened, answer)
            return opened, give_tar(self.tars, question)
        assert self.begin is not None
        sending = drive(cast("Coroutine[object, None, Sending]", self.begin(question)))
        value = SendLayers(first=sending.first)
        assert isinstance(value, answer)
        return value, (self.fds[SINK],)


class LocalChildren:
    """The children of one pull, one after the other, without processes but for mkfs.erofs."""

    owners = Owners(index=907, compress=906)

    def __init__(
        self,
        workspace: Path,
        keys: Mapping[str, bytes] = NO_KEYS,
        channel: Channel | None = None,
    ) -> None:
        self.channel = channel or Channel(str(workspace))
        self.keys = keys
        self.verdicts: list[AcceptedImage] = []
        self.file, self.blob_pipe, self.word_pipe = LayerPipe(), LayerPipe(), LayerPipe()
        self.has_sent = Event()
        self.has_unpacked = Event()

    async def fetch(self, request: PullRequest, decide: Decide, begin: Begin) -> PulledBlobs:
        to_file = False

        async def begin_here(found: FoundImage) -> Sending:
            nonlocal to_file
            sending = await begin(found)
            to_file = sending.to_file
            self.channel.fds[SINK] = (self.file if to_file else self.blob_pipe).fd
            return sending

        self.channel.decide, self.channel.begin = decide, begin_here
        blobs = registry_job(request, self.channel)
        if not to_file:
            self.has_sent.set()
        return blobs

    async def inspect(self, request: InspectRequest) -> InspectedImage:
        return inspect_job(request, self.channel)

    async def open_keys(self, image: InspectedImage) -> tuple[LayerKey, ...]:
        opened: dict[int, LayerKey] = {}
        for uri, key in self.keys.items():
            wrapped = tuple(
                one
                for layer in image.encrypted
                for one in select_wraps(layer, parse_resource_uri(uri), len(key))
            )
            self.channel.secrets["key"] = key
            reply = unwrap_job(UnwrapRequest(wrapped=wrapped), self.channel)
            opened |= {one.position: one.key for one in reply.keys}
        if len(opened) != len(image.encrypted):
            raise VerificationError("pull.layer_key", "no key opens a layer")
        return tuple(opened[layer.position] for layer in image.encrypted)

    async def decrypt(self, request: DecryptRequest, keys: Secret) -> DecryptReply:
        self.channel.secrets["keys"] = keys.reveal()
        self.channel.fds |= {SOURCE: self.file.fd, SINK: self.blob_pipe.fd}
        reply = decrypt_job(request, self.channel)
        self.has_sent.set()
        return reply

    async def unpack(self, request: UnpackRequest, tars: TarFiles) -> UnpackReply:
        await self.has_sent.wait()
        self.channel.tars = tars
        self.channel.fds |= {SOURCE: self.blob_pipe.rewind(), SINK: self.word_pipe.fd}
        reply = unpack_job(request, self.channel)
        self.has_unpacked.set()
        return reply

    async def judge(self, request: SignatureRequest) -> AcceptedImage:
        self.verdicts.append(signature_job(request, self.channel))
        return self.verdicts[-1]

    async def verify(
        self, request: LayersRequest, kept: tuple[StoredLayer, ...], tars: TarFiles
    ) -> VerifiedLayers:
        await self.has_unpacked.wait()
        self.channel.kept, self.channel.tars = kept, tars
        self.channel.fds[SOURCE] = self.word_pipe.rewind()
        return layers_job(request, self.channel)

    async def index(self, request: IndexRequest) -> None:
        run_mkfs(request)

    async def compress(self, tar: str, arguments: tuple[str, ...]) -> None:
        compress_here(tar, arguments)

    async def walk(self, roots: tuple[str, ...], form: LayerForm) -> TreeDigests:
        here = os.open(".", os.O_RDONLY)
        try:
            requests = [
                TreeRequest(roots=roots, parts=parts, form=form) for parts in share_parts(2)
            ]
            return join_parts([tree_job(request, self.channel) for request in requests])
        finally:
            os.fchdir(here)
            os.close(here)


def compress_here(tar: str, arguments: tuple[str, ...]) -> None:
    """Run both children of a compression, the one that feeds in a thread."""
    source, sink = os.pipe()
    file = os.open(tar, os.O_RDWR)

    def feed() -> None:
        with suppress(ChildError):  # mkfs.erofs has ended; it says why
            feed_job(FeedRequest(), Channel("", fds={SOURCE: file, SINK: sink}))
        os.close(sink)

    feeder = Thread(target=feed)
    feeder.start()
    try:
        said = _run_mkfs(arguments, stdin=source)
        if said:
            raise ChildError("pull.index", f"mkfs.erofs complains: {said}")
    finally:
        os.close(source)
        feeder.join()
        os.close(file)


def run_mkfs(request: IndexRequest) -> None:
    """Make each index."""
    for arguments in request.runs:
        _run_mkfs(arguments)


def _run_mkfs(arguments: tuple[str, ...], stdin: int | None = None) -> str:
    """Run the tools tree's mkfs.erofs by its own loader, without the cost of a chroot.

    Returns the end of what it has said on standard error.
    """
    root = TOOLS.path.resolve()
    done = subprocess.run(
        (
            str(root / "lib64/ld-linux-x86-64.so.2"),
            *("--library-path", str(root / "usr/lib/x86_64-linux-gnu")),
            str(root / "usr/bin/mkfs.erofs"),
            *arguments,
        ),
        capture_output=True,
        check=False,
        stdin=stdin,
    )
    said = done.stderr.decode(errors="replace")[-500:]
    if done.returncode:
        raise ChildError("pull.index", said)
    return said


def drive(coroutine: Coroutine[object, None, T]) -> T:
    """Run a coroutine in a loop of its own."""
    return EventLoop().run(coroutine)


@contextmanager
def pulled(
    reference: str,
    ca_pem: str,
    directory: Path,
    auth: bytes = b"",
    limits: PullLimits = LIMITS,
    *,
    keys: Mapping[str, bytes] = NO_KEYS,
    encryption: ImageEncryption = ImageEncryption.ALLOWED,
    policy: SignaturePolicy | None = None,
    registry: RegistryRule | None = None,
    channel: Channel | None = None,
    store: LayerStore | None = None,
) -> Iterator[PulledImage]:
    """Pull an image; its layers are mounted within the block.

    `keys` are what a KBS would release, by `kbs:///` name.
    """
    directory.mkdir(parents=True)
    request = PullRequest(
        reference=reference,
        ca_pem=ca_pem,
        limits=limits,
        encryption=encryption,
        has_auth=bool(auth),
        with_signatures=policy is not None,
        registry=registry,
    )
    children = LocalChildren(directory, keys, channel)
    children.channel.secrets |= {AUTH_PIPE: auth} if auth else {}
    image = drive(pull_image(request, str(directory), children, store or LayerStore(), policy))
    try:
        yield image
    finally:
        unmount_layers(image.own)


@contextmanager
def overlaid(image: PulledImage, directory: Path) -> Iterator[Path]:
    """Mount the image's layers over each other, as the guest does for a container."""
    for name in ("upper", "work", "merged"):
        (directory / name).mkdir(parents=True)
    # A merged root looks as the upper directory does, so that takes over the top layer's.
    root = Path(image.layers[-1].mount_point).stat()
    upper = directory / "upper"
    os.chown(upper, root.st_uid, root.st_gid)
    upper.chmod(stat.S_IMODE(root.st_mode))
    os.utime(upper, (root.st_mtime, root.st_mtime))
    lowers = [layer.mount_point for layer in reversed(image.layers)]
    merged = directory / "merged"
    options = (("upperdir", str(upper)), ("workdir", str(directory / "work")))
    mount_overlay(str(merged), lowers, options)
    try:
        yield merged
    finally:
        detach(str(merged))


def describe_tree(root: Path) -> Mapping[str, tuple[object, ...]]:
    """Everything that a container can see of a tree, path by path, contents hashed.

    Written against os and hashlib only, so that it shares nothing with what it checks.
    """
    tree: dict[str, tuple[object, ...]] = {}
    first: dict[tuple[int, int], str] = {}
    for path in (root, *sorted(root.rglob("*"))):
        status = path.lstat()
        name = str(path.relative_to(root))
        mode = status.st_mode
        extra: tuple[object, ...] = ()
        if stat.S_ISLNK(mode):
            extra = (str(path.readlink()),)
        elif stat.S_ISREG(mode):
            key = (status.st_dev, status.st_ino)
            extra = (
                status.st_size,
                hashlib.sha256(path.read_bytes()).hexdigest(),
                first.setdefault(key, name) if status.st_nlink > 1 else name,
            )
        elif stat.S_ISCHR(mode):
            extra = (status.st_rdev,)
        xattrs = tuple(
            (key, os.getxattr(path, key, follow_symlinks=False))
            for key in sorted(os.listxattr(path, follow_symlinks=False))
            if not key.startswith("trusted.overlay.")
        )
        owner = (status.st_uid, status.st_gid, int(status.st_mtime))
        tree[name] = (stat.filemode(mode), *owner, *extra, xattrs)
    return tree
