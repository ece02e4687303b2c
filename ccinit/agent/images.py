"""PULL: the manifest's images, a few at once, each through its children."""

from collections import deque
from collections.abc import Mapping
from functools import partial

from ccinit.agent.attestation import Attested
from ccinit.agent.channel import printable
from ccinit.agent.children import Answer
from ccinit.agent.configuration import Configured
from ccinit.agent.guest import Guest, undoing
from ccinit.agent.image_keys import open_layer_keys
from ccinit.agent.measurement import image_pulled
from ccinit.agent.roles import RIGHTS, Role
from ccinit.agent.storage import Unlocked
from ccinit.boot.directories import make_directory
from ccinit.errors import ChildError
from ccinit.formats.layer_encryption import LayerKey
from ccinit.formats.oci_reference import parse_image_reference
from ccinit.formats.pod_manifest import Image
from ccinit.formats.registries import RegistryRule, rule_keys, select_rule
from ccinit.kernel.event_loop import TaskGroup, Turn
from ccinit.pull.image import Owners, PulledImage, pull_image, unmount_layers
from ccinit.pull.messages import (
    KEYS_PIPE,
    AcceptedImage,
    DecryptReply,
    DecryptRequest,
    Downloaded,
    FetchBegun,
    FoundSignatures,
    InspectedImage,
    InspectRequest,
    LayersRequest,
    PulledBlobs,
    PullLimits,
    PullRequest,
    SignaturePolicy,
    SignatureRequest,
    SourceFailed,
    TreeDigests,
    TreeRequest,
    VerifiedLayers,
    key_pipe,
)
from ccinit.pull.verdict import Decide
from ccinit.secret import Secret
from ccinit.values import frozen

_JUDGE_SECONDS = 60.0
AT_ONCE = 3
"""Pulls that run at once: one downloads while another one's index is made. Each takes 60 MB."""


@frozen
class Pulled:
    """The manifest's images by name, mounted and compared with their tars."""

    images: Mapping[str, PulledImage]


async def pull(
    guest: Guest, configured: Configured, attested: Attested, unlocked: Unlocked
) -> Pulled:
    """Pull every image.

    Raises:
        CcinitError: of any family: `net.…`, `registry.…`, `pull.…`, `enc.…`, `tar.…`, `tree.…`.
    """
    images: dict[str, PulledImage] = {}
    waiting = deque(configured.manifest.images)
    turn = Turn()

    async def pull_waiting() -> None:
        while waiting:
            image = waiting.popleft()
            directory = f"{unlocked.store}/image-{image.name}"
            images[image.name] = await _pull_one(
                guest, configured, attested, image, directory, turn
            )

    async with TaskGroup() as group:
        for number in range(AT_ONCE):
            group.start(pull_waiting(), f"pull {number}")
    for uri in {uri for image in configured.manifest.images for uri in image.keys}:
        attested.grants[uri].secret.wipe()  # every layer is open
    return Pulled(images=images)


async def _pull_one(
    guest: Guest,
    configured: Configured,
    attested: Attested,
    image: Image,
    directory: str,
    turn: Turn,
) -> PulledImage:
    make_directory(directory, 0o700)
    policy = _policy(attested, image)
    rule = select_rule(configured.manifest.registries, parse_image_reference(image.reference))
    request = _request(configured, attested, image, rule)
    keys = _client_keys(attested, rule)
    children = _PullChildren(guest, configured, attested, image, directory, keys, turn)
    pulled = await pull_image(request, directory, children, policy)
    guest.teardown.push(f"image {image.name}", undoing(partial(_unmount, pulled)))
    guest.event(
        f"image {image.name}: manifest {pulled.manifest}, {len(pulled.layers)} layers, "
        f"{pulled.file_bytes} bytes of files"
    )
    configured.measurement.note(image_pulled(image.reference, pulled.manifest))
    guest.service.figures.image_bytes[image.name] = pulled.file_bytes
    return pulled


def _request(
    configured: Configured, attested: Attested, image: Image, rule: RegistryRule | None
) -> PullRequest:
    limits = configured.config.limits
    return PullRequest(
        reference=image.reference,
        ca_pem=image.ca_pem,
        auth=attested.grants[image.auth].secret.reveal() if image.auth is not None else b"",
        limits=PullLimits(tar_bytes=limits.image_bytes, total_seconds=limits.pull_seconds),
        encryption=image.encryption,
        with_signatures=image.policy is not None,
        registry=rule,
    )


def _client_keys(attested: Attested, rule: RegistryRule | None) -> Mapping[str, Secret]:
    """Return the keys of this image's client certificates by the names of their pipes."""
    return {
        key_pipe(position): attested.grants[uri].secret
        for position, uri in enumerate(rule_keys(rule))
    }


def _policy(attested: Attested, image: Image) -> SignaturePolicy | None:
    if image.policy is None:
        return None
    document = attested.grants[image.policy].secret.reveal()
    return SignaturePolicy(document=document, keys=attested.policy_keys)


def _unmount(image: PulledImage) -> None:
    unmount_layers(image.layers)


class _PullChildren:
    """The children of one pull; see `ccinit.pull.image.PullChildren`."""

    def __init__(
        self,
        guest: Guest,
        configured: Configured,
        attested: Attested,
        image: Image,
        directory: str,
        client_keys: Mapping[str, Secret],
        turn: Turn,
    ) -> None:
        self._guest = guest
        self._configured = configured
        self._attested = attested
        self._image = image
        self._client_keys = client_keys
        self._turn = turn
        self._seconds = configured.config.limits.pull_seconds
        self._directory = directory

    @property
    def owners(self) -> Owners:
        """Their user ids."""
        return Owners(
            registry=RIGHTS[Role.REGISTRY].uid,
            decrypt=RIGHTS[Role.DECRYPT].uid,
            layers=RIGHTS[Role.LAYERS].uid,
            index=RIGHTS[Role.INDEX].uid,
        )

    async def fetch(self, request: PullRequest, decide: Decide) -> PulledBlobs:
        """Download; progress is for the owner."""

        async def answer(found: FoundSignatures) -> Answer:
            return Answer(value=await decide(found))

        return await self._guest.children.run(
            Role.REGISTRY,
            request,
            PulledBlobs,
            seconds=self._seconds,
            workspace=self._directory,
            secrets=self._client_keys,
            answers={FoundSignatures: answer},
            notices={
                SourceFailed: self._source_failed,
                FetchBegun: self._fetch_begun,
                Downloaded: self._progress,
            },
        )

    async def inspect(self, request: InspectRequest) -> InspectedImage:
        """Read the manifest without a network."""
        return await self._guest.children.run(
            Role.INSPECT, request, InspectedImage, seconds=self._seconds
        )

    async def open_keys(self, image: InspectedImage) -> tuple[LayerKey, ...]:
        """Have the KBS's keys open the layers' wraps; one handshake at a time has the TPM."""
        async with self._turn:
            return await open_layer_keys(
                self._guest, self._configured, self._attested, self._image, image
            )

    async def decrypt(self, request: DecryptRequest, keys: Secret) -> DecryptReply:
        """Make tars of ciphertext."""
        return await self._guest.children.run(
            Role.DECRYPT,
            request,
            DecryptReply,
            seconds=self._seconds,
            secrets={KEYS_PIPE: keys},
            workspace=self._directory,
        )

    async def judge(self, request: SignatureRequest) -> AcceptedImage:
        """Ask the policy."""
        accepted = await self._guest.children.run(
            Role.SIGNATURE, request, AcceptedImage, seconds=_JUDGE_SECONDS
        )
        reasons = printable("; ".join(accepted.reasons))
        self._guest.event(f"image {self._image.name}: the policy accepts it: {reasons}")
        return accepted

    async def verify(self, request: LayersRequest) -> VerifiedLayers:
        """Hash and read the tars."""
        return await self._guest.children.run(
            Role.LAYERS,
            request,
            VerifiedLayers,
            seconds=self._seconds,
            workspace=self._directory,
        )

    async def index(self, arguments: tuple[str, ...]) -> None:
        """Run mkfs.erofs over one tar."""
        end = await self._guest.children.run_program(
            Role.INDEX, arguments, seconds=self._seconds, workspace=self._directory
        )
        if not end.status.is_success():
            raise ChildError("pull.index", f"mkfs.erofs: {end.status}: {end.output}")

    async def walk(self, request: TreeRequest) -> TreeDigests:
        """List the mounted layers."""
        return await self._guest.children.run(
            Role.TREE, request, TreeDigests, seconds=self._seconds, workspace=self._directory
        )

    def _source_failed(self, notice: SourceFailed) -> None:
        text = printable(f"{notice.reference}: {notice.error}")
        self._guest.event(f"image {self._image.name}: passed over {text}")

    def _fetch_begun(self, notice: FetchBegun) -> None:
        size = f"{notice.layers} layers of {notice.layer_bytes} bytes"
        self._guest.event(f"image {self._image.name}: {size} to fetch")

    def _progress(self, notice: Downloaded) -> None:
        self._guest.event(f"image {self._image.name}: {notice.layer_bytes} bytes of layers")
