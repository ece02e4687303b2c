"""What PID 1 and the children of a pull say to each other.

Values of `ccinit.formats.wire`, in a module of their own: PID 1 needs them, and none of the code
that makes them (HTTP, decompression, tar). Who says what to whom is drawn in `image`.
"""

from ccinit.formats.digest import Digest
from ccinit.formats.layer_encryption import KeyWrap, LayerKey
from ccinit.formats.oci_image import Compression, ImageConfig
from ccinit.formats.pod_manifest import ImageEncryption
from ccinit.formats.registries import RegistryRule
from ccinit.values import field, frozen

KEY_PIPE = "key"
"""The name under which the `unwrap` child finds its one key."""
KEYS_PIPE = "keys"
"""The name under which the `decrypt` child finds the layers' keys (`join_keys`)."""
SOURCE = "source"
SINK = "sink"
"""The names under which children find the pipes that layers come and go by."""


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
        registry: where else the image may come from.
        auth: a containers-auth.json document with credentials, or empty.
        encryption: what the pod manifest demands of the layers.
        with_signatures: whether it must find the image's signatures and ask before it goes on.
    """

    reference: str
    ca_pem: str
    auth: bytes = field(repr=False)
    limits: PullLimits
    encryption: ImageEncryption
    with_signatures: bool = False
    registry: RegistryRule | None = None


def key_pipe(position: int) -> str:
    """Return the name of the pipe with the client key at `position` of `rule_keys`."""
    return f"client-key-{position}"


@frozen
class SourceFailed:
    """A notice of the job: a mirror does not give the image, and the next source is tried."""

    reference: str
    error: str


@frozen
class FetchBegun:
    """A notice of the job: what is about to be downloaded."""

    layers: int
    layer_bytes: int


@frozen
class Downloaded:
    """A notice of the job: bytes of layers that have come so far."""

    layer_bytes: int


@frozen
class AttachedManifest:
    """A manifest with signatures, and its blobs that are any, in their order; unverified."""

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

    Unverified: whoever reads the layers hashes all of it again.

    Attributes:
        documents: the manifest, or the index and the manifest it names for this platform.
        config: the image config.
    """

    documents: tuple[bytes, ...]
    config: bytes


@frozen
class SendLayers:
    """The answer: write the blobs of layers, bottom first, into what comes with it.

    A pipe; or a file if any layer is encrypted, for keys and network are never in one process.

    Attributes:
        first: position of the first one; those below are there already.
    """

    first: int


@frozen
class PulledBlobs:
    """What the registry child has downloaded; unverified.

    Attributes:
        downloaded_bytes: sum of the layer blobs.
    """

    downloaded_bytes: int


@frozen
class UnpackRequest:
    """How the layers that will come are packed, and the cap on all their tars."""

    layers: tuple[Compression, ...]
    tar_bytes: int


@frozen
class UnpackReply:
    """How many bytes the tars have."""

    tar_bytes: int


def layer_file(position: int) -> str:
    """Return the name of a layer's tar in the image's directory."""
    return f"layer-{position}.tar"


@frozen
class InspectRequest:
    """What the `registry` child has found, and the digest that it was asked for."""

    pinned: Digest
    documents: tuple[bytes, ...]
    config: bytes
    encryption: ImageEncryption


@frozen
class EncryptedLayer:
    """An encrypted layer of the verified manifest; the fields are those of its descriptor.

    Attributes:
        position: among all layers, from 0 at the bottom.
        nonce: empty if it is wrapped with the key.
    """

    position: int
    compression: Compression
    hmac: bytes
    nonce: bytes
    wraps: tuple[KeyWrap, ...]


@frozen
class InspectedImage:
    """What has to be done with the layers of an image; verified, unlike the layers.

    Attributes:
        layers: how each is packed, under its encryption if it has one; bottom first.
        diff_ids: of each.
        encrypted: those that have to be decrypted, bottom first.
    """

    layers: tuple[Compression, ...]
    diff_ids: tuple[Digest, ...]
    encrypted: tuple[EncryptedLayer, ...]


@frozen
class WrappedKey:
    """One wrap of one layer's key; `nonce` as in `EncryptedLayer`."""

    position: int
    wrap: KeyWrap
    nonce: bytes


@frozen
class UnwrapRequest:
    """Wraps that one key may open; the key comes by pipe."""

    wrapped: tuple[WrappedKey, ...]


@frozen
class UnwrappedKey:
    """A layer and its key."""

    position: int
    key: LayerKey


@frozen
class UnwrapReply:
    """The layers whose key was opened, each once, in the order of the request."""

    keys: tuple[UnwrappedKey, ...]


@frozen
class DecryptRequest:
    """An image's layers, some to decrypt, whose keys come by pipe in the same order.

    Attributes:
        layers: how many there are.
        encrypted: those that are, bottom first.
    """

    layers: int
    encrypted: tuple[EncryptedLayer, ...]


@frozen
class DecryptReply:
    """How many bytes have gone into the pipe."""

    sent_bytes: int


@frozen
class LayersRequest:
    """What the `registry` child has found, and the digest that it was asked for.

    Attributes:
        tar_bytes: cap on all tars that come.
        kept: how many layers, from the bottom, are there already; their tars do not come.
        kept_records: paths in those.
    """

    pinned: Digest
    documents: tuple[bytes, ...]
    config: bytes
    encryption: ImageEncryption
    tar_bytes: int
    kept: int = 0
    kept_records: int = 0


@frozen
class KeptTar:
    """A question of the `layers` child: the tar of the layer at this position, please."""

    position: int


@frozen
class OpenedTar:
    """The answer; the tar comes with it, complete and sealed."""


@frozen
class PassedLayer:
    """What a layer is, by our reading.

    Attributes:
        listing: digest of the canonical listing.
        records: paths in it.
        file_bytes: content of all files.
    """

    listing: Digest
    records: int
    file_bytes: int


@frozen
class VerifiedLayers:
    """An image whose every byte is what its digest says; its layers wait for their index.

    Attributes:
        manifest: digest of the manifest in use, which an index may have named.
        layers: bottom first, one for each tar that has come.
    """

    manifest: Digest
    config: ImageConfig
    layers: tuple[PassedLayer, ...]


@frozen
class TreeRequest:
    """Which mounted layers to walk: each directory is the root of one erofs mount."""

    roots: tuple[str, ...]


@frozen
class TreeDigests:
    """The digests of the canonical listings, in the order of the request."""

    listings: tuple[Digest, ...]
