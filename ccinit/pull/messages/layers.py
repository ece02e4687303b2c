"""The messages between PID 1 and the children that read an image's documents.

They are values of `ccinit.formats.encoding.wire`, in modules of their own, so that PID 1 can load
them without the code that produces them (HTTP, decompression, tar). Of the other modules (`feed`,
`fetch`, `tars`, `tree`), a child loads only its own. `image` shows who says what to whom.
"""

from ccinit.formats.encoding.digest import Digest
from ccinit.formats.oci.compression import Compression
from ccinit.formats.oci.image import ImageConfig
from ccinit.formats.oci.layer_encryption import ImageEncryption, KeyWrap, LayerKey
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.values import frozen

KEY_PIPE = "key"
"""The name under which the `unwrap` child finds its one key."""
KEYS_PIPE = "keys"
"""The name under which the `decrypt` child finds the layers' keys (`join_keys`)."""


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
    """What to do with the layers of an image; verified, unlike the layers themselves.

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
    """All layers have gone into the pipe."""


@frozen
class LayersRequest:
    """What is known of an image before its tars arrive.

    Attributes:
        image: what was inspected; it is verified once more.
        tar_bytes: cap on all tars that come, also with the directories that they imply.
        kept: how many layers, from the bottom, are there already; their tars do not come.
        kept_records: paths in those.
        form: what becomes of the layers.
    """

    image: InspectRequest
    tar_bytes: int
    kept: int = 0
    kept_records: int = 0
    form: LayerForm = LayerForm.INDEX


@frozen
class PassedLayer:
    """A layer as our pass over its tar has read it.

    Attributes:
        listing: digests of the canonical listing's parts.
        records: paths in it.
        file_bytes: content of all files.
        tar_bytes: size of its tar, completed.
    """

    listing: tuple[Digest, ...]
    records: int
    file_bytes: int
    tar_bytes: int


@frozen
class VerifiedLayers:
    """An image with every byte verified by its digest; its layers are not indexed yet.

    Attributes:
        manifest: digest of the manifest in use, which an index may have named.
        layers: bottom first, one for each tar that has come.
    """

    manifest: Digest
    config: ImageConfig
    layers: tuple[PassedLayer, ...]
