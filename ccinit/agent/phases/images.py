"""PULL: the manifest's images, a few at once, each through its children."""

from collections import deque
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

from ccinit.agent.guest import Guest, inner_seconds, undoing
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.image_keys import open_layer_keys
from ccinit.agent.phases.memory_store import count_used
from ccinit.agent.phases.pull_children import ImageChildren
from ccinit.agent.phases.reception_children import ReceptionChildren, prepare_reception
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.platform.measurement import image_pulled
from ccinit.agent.processes.secret_pipes import MAX_PIPED_BYTES
from ccinit.boot.directories import make_directory
from ccinit.errors import CcinitError, FormatError, LimitExceededError
from ccinit.formats.kbs.resource_uri import KbsUri
from ccinit.formats.oci.layer_encryption import LayerKey
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.formats.oci.registries import RegistryRule, rule_keys, select_rule
from ccinit.formats.pod.manifest import Image
from ccinit.formats.pod.resources import name_pull_resources
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
"""Pulls that run at once: one downloads while another one's index is made. Each takes 43 MB."""


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
    images: dict[str, PulledImage] = {}
    left = deque(configured.manifest.images)
    in_memory = unlocked.in_memory
    lock, store = Lock(), LayerStore(LayerForm.COMPRESSED if in_memory else LayerForm.INDEX)

    async def pull_left() -> None:
        nonlocal waiting
        while left:
            image, children, waiting = left.popleft(), waiting, None
            directory = f"{unlocked.store}/image-{image.name}"
            try:
                images[image.name] = await _pull_one(
                    guest, configured, attested, image, directory, lock, store, children
                )
            except CcinitError as error:  # the report has the error, which knows no image
                guest.event(f"image {image.name}: {error}")
                raise

    async with TaskGroup() as group:
        for number in range(1 if in_memory else AT_ONCE):  # the tars of one are enough in memory
            group.start(pull_left(), f"pull {number}")
    for uri in name_pull_resources(configured.manifest):
        attested.grants[uri].secret.wipe()  # they have had their one use
    if in_memory:
        used, free = count_used(unlocked.store)
        guest.event(f"images take {used} bytes of memory; containers may write {free}")
    return Pulled(images=images)


def prepare_first(
    guest: Guest, configured: Configured
) -> AbstractAsyncContextManager[ReceptionChildren | None]:
    """Return what starts the children that receive the first image, to be entered before ATTEST.

    They load their code while the KBS and disks are waited for. None are started where somebody may
    miss their memory: a key derivation in UNLOCK that another has chosen, or images without a disk.
    """
    volumes, image = configured.manifest.volumes, configured.manifest.images[0]
    if not select_kind(volumes, ScratchVolume) or select_kind(volumes, Luks2Volume):
        return nullcontext()
    try:
        credentials = _credentials(configured, image)
    except FormatError:
        return nullcontext()  # PULL refuses the reference, in the image's name
    return prepare_reception(guest.children, image, credentials.keys())


async def _pull_one(
    guest: Guest,
    configured: Configured,
    attested: Attested,
    image: Image,
    directory: str,
    lock: Lock,
    store: LayerStore,
    waiting: ReceptionChildren | None,
) -> PulledImage:
    async def open_keys(inspected: InspectedImage) -> tuple[LayerKey, ...]:
        async with lock:  # one handshake at a time has the TPM
            return await open_layer_keys(guest, configured, attested, image, inspected)

    make_directory(directory, 0o700)
    policy = _policy(attested, image)
    most_seconds = configured.config.limits.pull_seconds
    request = _request(configured, image, inner_seconds(guest.phase_time.left(most_seconds)))
    credentials = _credentials(configured, image)
    secrets = _secrets(attested, credentials)
    entering = (
        prepare_reception(guest.children, image, credentials.keys())
        if waiting is None
        else nullcontext(waiting)
    )
    async with entering as reception:
        reception.give(secrets)
        children = ImageChildren(
            guest, image, directory, reception, open_keys, seconds=most_seconds, form=store.form
        )
        async with children:
            pulled = await pull_image(request, directory, children, store, policy)
            # Nothing has been waited for since they were mounted. The end of the children is, and
            # if another image fails meanwhile, this is interrupted there.
            guest.teardown.push(f"image {image.name}", undoing(partial(unmount_layers, pulled.own)))
    guest.event(
        f"image {image.name}: manifest {pulled.manifest}, {len(pulled.layers)} layers, "
        f"{pulled.file_bytes} bytes of files"
    )
    configured.measurement.note(image_pulled(image.reference, pulled.manifest))
    guest.service.figures.image_bytes[image.name] = pulled.file_bytes
    return pulled


def _rule(configured: Configured, image: Image) -> RegistryRule | None:
    return select_rule(configured.manifest.registries, parse_image_reference(image.reference))


def _request(configured: Configured, image: Image, seconds: int) -> PullRequest:
    image_bytes = configured.config.limits.image_bytes
    return PullRequest(
        reference=image.reference,
        ca_pem=image.ca_pem,
        limits=PullLimits(tar_bytes=image_bytes, total_seconds=seconds),
        encryption=image.encryption,
        has_auth=image.auth is not None,
        with_signatures=image.policy is not None,
        registry=_rule(configured, image),
    )


def _credentials(configured: Configured, image: Image) -> Mapping[str, KbsUri]:
    """Return what the registry's child gets by pipe, by the pipes' names.

    The credentials, and the keys of client certificates.
    """
    keys = rule_keys(_rule(configured, image))
    uris: dict[str, KbsUri] = {key_pipe(position): uri for position, uri in enumerate(keys)}
    if image.auth is not None:
        uris[AUTH_PIPE] = image.auth
    return uris


def _secrets(attested: Attested, uris: Mapping[str, KbsUri]) -> Mapping[str, Secret]:
    """Return them, released.

    Raises:
        LimitExceededError: `pull.secret`, one does not fit into a pipe.
    """
    secrets = {name: attested.grants[uri].secret for name, uri in uris.items()}
    for name, secret in secrets.items():
        if len(secret) > MAX_PIPED_BYTES:
            size = f"{len(secret)} bytes, at most {MAX_PIPED_BYTES}"
            raise LimitExceededError("pull.secret", f"{uris[name]} has {size}")
    return secrets


def _policy(attested: Attested, image: Image) -> SignaturePolicy | None:
    if image.policy is None:
        return None
    document = attested.grants[image.policy].secret.reveal()
    return SignaturePolicy(document=document, keys=attested.policy_keys)
