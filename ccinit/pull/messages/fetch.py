"""The messages between PID 1 and the child with the network, and those about the policy.

See `layers`.
"""

from ccinit.formats.encoding.digest import Digest
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.oci.registries import RegistryRule
from ccinit.values import frozen

AUTH_PIPE = "auth"
"""The name under which the registry child finds a containers-auth.json document."""


@frozen
class PullLimits:
    """Caps on one image: bytes of all its tars, and seconds for all of the download."""

    tar_bytes: int
    total_seconds: int


@frozen
class PullRequest:
    """What the registry child is asked for.

    Attributes:
        reference: `host[:port]/repository@sha256:…`, as the owner wrote it.
        ca_pem: the only roots that may vouch for the registry.
        registry: the owner's rule for other places that the image may come from.
        has_auth: whether credentials come by the pipe `AUTH_PIPE`.
        encryption: what the pod manifest demands of the layers.
        with_signatures: whether it must find the image's signatures and ask before it goes on.
    """

    reference: str
    ca_pem: str
    limits: PullLimits
    encryption: ImageEncryption
    has_auth: bool = False
    with_signatures: bool = False
    registry: RegistryRule | None = None


def key_pipe(position: int) -> str:
    """Return the name of the pipe with the client key at `position` of `rule_keys`."""
    return f"client-key-{position}"


@frozen
class SourceFailed:
    """A notice of the job: a mirror does not have the image, and the next source is tried."""

    reference: str
    error: str


@frozen
class FetchBegun:
    """A notice of the job: what is about to be downloaded."""

    layers: int
    layer_bytes: int


@frozen
class Downloaded:
    """A notice of the job: bytes of layers downloaded so far."""

    layer_bytes: int


@frozen
class AttachedManifest:
    """A manifest with signatures, and its signature blobs in their order; unverified."""

    manifest: bytes
    blobs: tuple[bytes, ...]


@frozen
class FoundSignatures:
    """A question of the registry child: may the image with these documents be downloaded?"""

    documents: tuple[bytes, ...]
    manifests: tuple[AttachedManifest, ...]


@frozen
class PolicyKey:
    """A resource that a policy names: PEM text."""

    resource: str
    data: bytes


@frozen
class SignaturePolicy:
    """The owner's `policy.json`, and the keys that it names instead of containing them."""

    document: bytes
    keys: tuple[PolicyKey, ...]


@frozen
class SignatureRequest:
    """What the signature child is asked: does the policy accept this image?

    Attributes:
        reference: as the owner wrote it.
    """

    reference: str
    policy: SignaturePolicy
    found: FoundSignatures


@frozen
class AcceptedImage:
    """The policy accepts an image.

    Attributes:
        documents: digests of the documents that it has accepted.
        reasons: why, one for each requirement.
    """

    documents: tuple[Digest, ...]
    reasons: tuple[str, ...]


@frozen
class FoundImage:
    """A question of the registry child: what is to be done with the layers of this image?

    Unverified: the child that reads the layers hashes all of it again.

    Attributes:
        documents: the manifest, or the index and the manifest it names for this platform.
        config: the image config.
    """

    documents: tuple[bytes, ...]
    config: bytes


@frozen
class SendLayers:
    """The answer: write the layers' blobs, bottom first, into the descriptor that comes with it.

    That is a pipe, or a file if any layer is encrypted: no process has both keys and a network.

    Attributes:
        first: position of the first one; those below are there already.
    """

    first: int


@frozen
class PulledBlobs:
    """Everything requested has been downloaded; unverified."""
