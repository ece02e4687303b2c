"""What PID 1 and the children of a pull say to each other.

Values of `ccinit.formats.wire`, in a module of their own: PID 1 needs them, and none of the code
that makes them (HTTP, decompression, tar). Who says what to whom is drawn in `image`.
"""

from dataclasses import dataclass, field

from ccinit.formats.digest import Digest
from ccinit.formats.oci_image import ImageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PullLimits:
    """Caps on one image: bytes of all its tars, and seconds for all of the download."""

    tar_bytes: int
    total_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What the registry child is asked for.

    Attributes:
        reference: `host[:port]/repository@sha256:…`.
        ca_pem: the only roots that may vouch for the registry.
        auth: a containers-auth.json document with credentials, or empty.
    """

    reference: str
    ca_pem: str
    auth: bytes = field(repr=False)
    limits: PullLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """A notice of the job: bytes of layers that have come so far."""

    layer_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledBlobs:
    """What the registry child found; unverified.

    Attributes:
        documents: the manifest, or the index and the manifest it names for this platform.
        config: the image config.
        tars: names of the layers' tars in the directory, bottom first.
        downloaded_bytes: sum of the layer blobs.
    """

    documents: tuple[bytes, ...]
    config: bytes
    tars: tuple[str, ...]
    downloaded_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersRequest:
    """What the `registry` child left, and the digest that it was asked for."""

    pinned: Digest
    documents: tuple[bytes, ...]
    config: bytes
    tars: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLayers:
    """An image whose every byte is what its digest says; its layers wait for their index.

    Attributes:
        manifest: digest of the manifest in use, which an index may have named.
        layers: bottom first, one for each tar.
    """

    manifest: Digest
    config: ImageConfig
    layers: tuple[PassedLayer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeRequest:
    """Which mounted layers to walk: each directory is the root of one erofs mount."""

    roots: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeDigests:
    """The digests of the canonical listings, in the order of the request."""

    listings: tuple[Digest, ...]
