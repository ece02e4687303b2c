"""PULL: the manifest's images, a few at once, each through its children."""

from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial

from ccinit.agent.guest import Guest, inner_seconds
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.image_keys import open_layer_keys
from ccinit.agent.phases.memory_store import count_used
from ccinit.agent.phases.pull_children import ImageChildren
from ccinit.agent.phases.reception_children import ReceptionChildren, prepare_reception
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.platform.measurement import image_pulled
from ccinit.agent.teardown import undoing
from ccinit.boot.directories import make_directory
from ccinit.errors import CcinitError, LimitExceededError
from ccinit.formats.kbs.resource_uri import KbsUri
from ccinit.formats.oci.layer_encryption import LayerKey
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.formats.oci.registries import RegistryRule, rule_keys, select_rule
from ccinit.formats.pod.manifest import Image
from ccinit.formats.pod.resources import MAX_PULL_SECRET_BYTES, name_pull_resources
from ccinit.formats.pod.volume import Luks2Volume, ScratchVolume, select_kind
from ccinit.kernel.event_loop import Lock, TaskGroup
from ccinit.pull.image import PulledImage, pull_image, unmount_layers
from ccinit.pull.layer_store import LayerStore
from ccinit.pull.messages.fetch import (
    AUTH_PIPE,
    PullLimits,
    PullRequest,
    SignaturePolicy,
    key_pipe,
)
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import InspectedImage
from ccinit.secret import Secret
from ccinit.values import frozen

AT_ONCE = 3
"""Concurrent pulls: one downloads while another's index is made. Each takes 43 MB."""


@frozen
class Pulled:
    """The manifest's images by name, mounted and compared with their tars."""

    images: Mapping[str, PulledImage]


async def pull(
    guest: Guest,
    configured: Configured,
    attested: Attested,
    unlocked: Unlocked,
    waiting: ReceptionChildren | None = None,
) -> Pulled:
    """Pull every image, the first by children that may be `waiting` (see `prepare_first`).

    Raises:
        CcinitError: of any family: `net.…`, `registry.…`, `pull.…`, `enc.…`, `tar.…`, `tree.…`.
    """
    images = await _Puller(guest, configured, attested, unlocked, waiting).pull_all()
    for uri in name_pull_resources(configured.manifest):
        attested.grants[uri].secret.wipe()  # it is needed only once
    if unlocked.in_memory:
        used, free = count_used(unlocked.store)
        guest.event(f"images take {used} bytes of memory; containers may write {free}")
    return Pulled(images=images)


def prepare_first(
    guest: Guest, configured: Configured
) -> AbstractAsyncContextManager[ReceptionChildren | None]:
    """Return a context that starts the children for the first image; enter it before ATTEST.

    They load their code while the guest waits for the KBS and disks. None are started if others may
    need their memory: a LUKS2 key derivation in UNLOCK, whose cost somebody else has chosen, or
    images kept in memory.
    """
    volumes, image = configured.manifest.volumes, configured.manifest.images[0]
    if not select_kind(volumes, ScratchVolume) or select_kind(volumes, Luks2Volume):
        return nullcontext()
    return prepare_reception(guest.children, image, _credentials(configured, image).keys())


class _Puller:
    """Pulls the images of one pod into its store."""

    def __init__(
        self,
        guest: Guest,
        configured: Configured,
        attested: Attested,
        unlocked: Unlocked,
        waiting: ReceptionChildren | None,
    ) -> None:
        first = configured.manifest.images[0]
        self._waiting = {} if waiting is None else {first.name: waiting}
        self._guest = guest
        self._configured = configured
        self._attested = attested
        self._unlocked = unlocked
        form = LayerForm.COMPRESSED if unlocked.in_memory else LayerForm.INDEX
        self._layers = LayerStore(form)
        self._handshake = Lock()  # one attestation at a time

    async def pull_all(self) -> Mapping[str, PulledImage]:
        """Return all images by name."""
        images: dict[str, PulledImage] = {}
        left = deque(self._configured.manifest.images)

        async def pull_left() -> None:
            while left:
                image = left.popleft()
                try:
                    images[image.name] = await self.pull_one(image)
                except CcinitError as error:  # the report has the error, but not the image's name
                    self._guest.event(f"image {image.name}: {error}")
                    raise

        at_once = 1 if self._unlocked.in_memory else AT_ONCE  # memory has room for the tars of one
        async with TaskGroup() as group:
            for number in range(at_once):
                group.start(pull_left(), f"pull {number}")
        return images

    async def pull_one(self, image: Image) -> PulledImage:
        """Pull one image; it stays mounted until the guest ends.

        The pull is logged for the owner, and noted for measurement.
        """
        guest, measurement = self._guest, self._configured.measurement
        directory = make_directory(f"{self._unlocked.store}/image-{image.name}", 0o700)
        request, policy = self._request(image), self._policy(image)
        async with self._children(image, directory) as children:
            pulled = await pull_image(request, directory, children, self._layers, policy)
            # Push before the block ends: nothing was awaited since the layers were mounted, but the
            # children's end is, and there a failure of another image would interrupt us.
            guest.teardown.push(f"image {image.name}", undoing(partial(unmount_layers, pulled.own)))
        guest.event(
            f"image {image.name}: manifest {pulled.manifest}, {len(pulled.layers)} layers, "
            f"{pulled.file_bytes} bytes of files"
        )
        measurement.note(image_pulled(image.reference, pulled.manifest))
        guest.figures.image_bytes[image.name] = pulled.file_bytes
        return pulled

    def _request(self, image: Image) -> PullRequest:
        limits = self._configured.config.limits
        seconds = self._guest.phase_time.left(limits.pull_seconds)
        return PullRequest(
            reference=image.reference,
            ca_pem=image.ca_pem,
            limits=PullLimits(tar_bytes=limits.image_bytes, total_seconds=inner_seconds(seconds)),
            encryption=image.encryption,
            has_auth=image.auth is not None,
            with_signatures=image.policy is not None,
            registry=_rule(self._configured, image),
        )

    def _policy(self, image: Image) -> SignaturePolicy | None:
        if image.policy is None:
            return None
        document = self._attested.grants[image.policy].secret.reveal()
        return SignaturePolicy(document=document, keys=self._attested.policy_keys)

    @asynccontextmanager
    async def _children(self, image: Image, directory: str) -> AsyncIterator[ImageChildren]:
        """Yield the children of one pull, which end with the block; the registry's has its secrets.

        Raises:
            LimitExceededError: `pull.secret`.
            KernelError: one could not be started.
        """
        credentials = _credentials(self._configured, image)
        secrets = self._secrets(credentials)
        waiting = self._waiting.pop(image.name, None)
        prepared = (
            prepare_reception(self._guest.children, image, credentials.keys())
            if waiting is None
            else nullcontext(waiting)
        )
        async with prepared as reception:
            reception.give(secrets)
            children = ImageChildren(
                self._guest,
                image,
                directory,
                reception,
                partial(self._open_keys, image),
                seconds=self._configured.config.limits.pull_seconds,
                form=self._layers.form,
            )
            async with children:
                yield children

    def _secrets(self, uris: Mapping[str, KbsUri]) -> Mapping[str, Secret]:
        """Return the released secrets at `uris`, by the names of their pipes.

        Raises:
            LimitExceededError: `pull.secret`, one does not fit into a pipe.
        """
        secrets = {name: self._attested.grants[uri].secret for name, uri in uris.items()}
        for name, secret in secrets.items():
            if len(secret) > MAX_PULL_SECRET_BYTES:
                size = f"expected at most {MAX_PULL_SECRET_BYTES} bytes, found {len(secret)}"
                raise LimitExceededError("pull.secret", f"{uris[name]} has {size}")
        return secrets

    async def _open_keys(self, image: Image, inspected: InspectedImage) -> tuple[LayerKey, ...]:
        async with self._handshake:
            return await open_layer_keys(
                self._guest, self._configured, self._attested, image, inspected
            )


def _rule(configured: Configured, image: Image) -> RegistryRule | None:
    return select_rule(configured.manifest.registries, parse_image_reference(image.reference))


def _credentials(configured: Configured, image: Image) -> Mapping[str, KbsUri]:
    """Return the resources that the registry's child gets by pipe, by the pipes' names.

    These are the credentials, and the keys of client certificates.
    """
    keys = rule_keys(_rule(configured, image))
    uris: dict[str, KbsUri] = {key_pipe(position): uri for position, uri in enumerate(keys)}
    if image.auth is not None:
        uris[AUTH_PIPE] = image.auth
    return uris
