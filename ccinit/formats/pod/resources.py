"""What a pod needs from its owner: a pure function of its manifest.

The guest asks for exactly this, so the owner's tools know from the document alone what to register,
and what to inject where a launch is judged.
"""

from collections.abc import Iterator

from ccinit.errors import FormatError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import KbsUri, PluginUri, ResourceUri
from ccinit.formats.kbs.rollback_counter import counter_uri
from ccinit.formats.oci.registries import rule_keys
from ccinit.formats.pod.manifest import PodManifest
from ccinit.formats.pod.secret import resources_of
from ccinit.formats.pod.volume import KeyedVolume, PersistentVolume, RollbackAnchor, select_kind

MAX_PULL_SECRET_BYTES = 64 << 10
"""Of credentials and private keys for pulls, which children get by pipe."""


def log_psk_uri(manifest: PodManifest) -> ResourceUri:
    """Name the secret that, mixed into the log's key, shuts out a host that chose that key."""
    return ResourceUri("ccinit", manifest.name, EnvelopeKind.LOG_PSK.value)


def tls_identity_uri(manifest: PodManifest) -> ResourceUri:
    """Name the guest's identity towards its owner; see `ccinit.formats.kbs.tls_identity`."""
    return ResourceUri("ccinit", manifest.name, EnvelopeKind.TLS_IDENTITY.value)


def name_resources(
    manifest: PodManifest, *, with_identity: bool = False
) -> dict[KbsUri, EnvelopeKind]:
    """Return each resource that this pod needs, once, and its kind; the log's key is first.

    Args:
        manifest: names most of it.
        with_identity: whether there is an owner plane, which needs a TLS identity.

    Raises:
        FormatError: `pod.resource`, one resource for two uses. Keys are wiped after their use, so a
            second use would find none.
    """
    wanted: dict[KbsUri, EnvelopeKind] = {}
    for uri, kind in _uses(manifest, with_identity=with_identity):
        if wanted.setdefault(uri, kind) is not kind:
            raise FormatError("pod.resource", f"{uri} is wanted as {wanted[uri]} and as {kind}")
    return wanted


def _uses(manifest: PodManifest, *, with_identity: bool) -> Iterator[tuple[KbsUri, EnvelopeKind]]:
    yield log_psk_uri(manifest), EnvelopeKind.LOG_PSK
    if with_identity:
        yield tls_identity_uri(manifest), EnvelopeKind.TLS_IDENTITY
    for volume in manifest.volumes:
        if isinstance(volume, KeyedVolume):
            yield volume.key, EnvelopeKind.VOLUME_KEY
    yield from _uses_of_pulls(manifest)
    for secret in manifest.secrets:
        for named in resources_of(secret):
            yield named, EnvelopeKind.FILE


def _uses_of_pulls(manifest: PodManifest) -> Iterator[tuple[KbsUri, EnvelopeKind]]:
    for image in manifest.images:
        for uri in (image.auth, image.policy):
            if uri is not None:
                yield uri, EnvelopeKind.FILE
        for uri in image.keys:
            yield uri, EnvelopeKind.IMAGE_KEY
    for rule in manifest.registries:
        for uri in rule_keys(rule):
            yield uri, EnvelopeKind.FILE


def name_pull_resources(manifest: PodManifest) -> frozenset[KbsUri]:
    """Return the resources that only pulls need; those that containers get are not among them."""
    kept = {uri for secret in manifest.secrets for uri in resources_of(secret)}
    return frozenset(uri for uri, _kind in _uses_of_pulls(manifest) if uri not in kept)


def name_piped_resources(manifest: PodManifest) -> frozenset[KbsUri]:
    """Return the credentials and private keys, of `MAX_PULL_SECRET_BYTES` each; no policies."""
    auths = {image.auth for image in manifest.images if image.auth is not None}
    keys = {uri for image in manifest.images for uri in image.keys}
    return frozenset(
        auths | keys | {uri for rule in manifest.registries for uri in rule_keys(rule)}
    )


def name_policies(manifest: PodManifest) -> tuple[ResourceUri, ...]:
    """Return the policies of its images, each once; see `image_policy.name_policy_keys`."""
    return tuple(dict.fromkeys(one.policy for one in manifest.images if one.policy is not None))


def name_counters(manifest: PodManifest) -> tuple[PluginUri, ...]:
    """Return the rollback counters of its volumes."""
    return tuple(
        counter_uri(manifest.name, volume.name)
        for volume in select_kind(manifest.volumes, PersistentVolume)
        if volume.rollback is RollbackAnchor.KBS_COUNTER
    )
