"""Keys of encrypted layers: which KBS resources they are, and which layer each of them opens.

ATTEST has fetched the keys that the pod manifest lists. A layer can also name its own key (CoCo's
packets), in an image manifest that the pod manifest pins; such keys are fetched here in a handshake
of their own, from the measured configuration's one KBS. Each key goes to an `unwrap` child of its
own, which returns layer keys, and is wiped as soon as no image can need it.
"""

from collections.abc import Iterator

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.kbs import Wanted
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.kbs_session import Grant, fetch_grants, wipe_grants
from ccinit.agent.processes.roles import Role
from ccinit.errors import ChildError, LimitExceededError, VerificationError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import KbsUri
from ccinit.formats.oci.layer_encryption import LayerKey, WrapScheme, is_packet_key
from ccinit.formats.pod.manifest import Image
from ccinit.formats.pod.resources import name_resources
from ccinit.pull.messages.layers import (
    KEY_PIPE,
    EncryptedLayer,
    InspectedImage,
    UnwrapReply,
    UnwrapRequest,
    WrappedKey,
)

MAX_NAMED_KEYS = 16
_UNWRAP_SECONDS = 60.0

LayerKeys = dict[int, LayerKey]
"""The layer keys found so far, by the layer's position."""


async def open_layer_keys(
    guest: Guest,
    configured: Configured,
    attested: Attested,
    image: Image,
    inspected: InspectedImage,
) -> tuple[LayerKey, ...]:
    """Return the key of each encrypted layer, bottom first.

    Raises:
        VerificationError: `pull.layer_key`, no key opens a layer, or it names what the pod uses as
            something else; `enc.packet.decrypt`.
        FormatError: `enc.…`, a key or what it opened is malformed.
        LimitExceededError: `pull.layer_key`, the layers name too many keys.
        PeerError, DeadlineError: `kbs.…`, `net.…`, a key was not released.
    """
    opened: LayerKeys = {}
    for uri in image.keys:
        await _unwrap(guest, inspected, opened, uri, attested.grants[uri])
    named = plan_named_keys(inspected, opened)
    if named:
        _check_uses(configured, named)
        grants = await fetch_grants(guest, configured, named)
        try:
            for name, grant in grants.items():
                await _unwrap(guest, inspected, opened, name, grant)
        finally:
            wipe_grants(grants)
    for layer in inspected.encrypted:
        if layer.position not in opened:
            raise VerificationError("pull.layer_key", f"no key opens layer {layer.position}")
    return tuple(opened[layer.position] for layer in inspected.encrypted)


def plan_named_keys(inspected: InspectedImage, opened: LayerKeys) -> tuple[Wanted, ...]:
    """List the keys named by layers that are still closed: the first of each layer, each key once.

    The owner of an image with wraps for several parties lists the right key in the pod manifest.
    """
    named = dict.fromkeys(
        next(wrap.kek for wrap in layer.wraps if wrap.kek is not None)
        for layer in inspected.encrypted
        if layer.position not in opened and any(wrap.kek is not None for wrap in layer.wraps)
    )
    if len(named) > MAX_NAMED_KEYS:
        raise LimitExceededError(
            "pull.layer_key", f"expected at most {MAX_NAMED_KEYS} keys, found {len(named)}"
        )
    return tuple(Wanted(uri=uri, kind=EnvelopeKind.IMAGE_KEY) for uri in named)


def _check_uses(configured: Configured, named: tuple[Wanted, ...]) -> None:
    """Refuse a name that is not a layer key's: without envelopes, what it is of would be given."""
    has_identity = configured.config.owner is not None
    pods = name_resources(configured.manifest, with_identity=has_identity)
    for one in named:
        kind = pods.get(one.uri, one.kind)
        if kind is not one.kind:
            detail = f"a layer names {one.uri}, which the pod uses as {kind}"
            raise VerificationError("pull.layer_key", detail)


def select_wraps(layer: EncryptedLayer, uri: KbsUri, key_bytes: int) -> Iterator[WrappedKey]:
    """Yield the wraps that the resource `uri`, a key of `key_bytes`, may open."""
    for wrap in layer.wraps:
        is_packet = wrap.scheme is WrapScheme.PROVIDER
        if is_packet_key(key_bytes) == is_packet and (not is_packet or wrap.kek == uri):
            yield WrappedKey(position=layer.position, wrap=wrap, nonce=layer.nonce)


async def _unwrap(
    guest: Guest, inspected: InspectedImage, opened: LayerKeys, uri: KbsUri, grant: Grant
) -> None:
    """Add the layer keys that the key opens to `opened`."""
    wrapped = tuple(
        wrap
        for layer in inspected.encrypted
        if layer.position not in opened
        for wrap in select_wraps(layer, uri, len(grant.secret))
    )
    if not wrapped:
        return
    reply = await guest.children.run(
        Role.UNWRAP,
        UnwrapRequest(wrapped=wrapped),
        UnwrapReply,
        seconds=_UNWRAP_SECONDS,
        secrets={KEY_PIPE: grant.secret},
    )
    asked = {one.position for one in wrapped}
    for key in reply.keys:
        if key.position not in asked:
            raise ChildError("child.protocol", "a key of a layer that nobody asked for")
        opened[key.position] = key.key
