"""From the pinned digest to an image's manifest and config: each document names the next.

The `registry` child checks what it downloads in order to stop early; children without a network
check the same bytes again, and only their results count. `registry.fetch` fetches the documents,
and `formats.oci.image` parses them.
"""

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.digest import Digest, sha256_digest
from ccinit.formats.oci.image import (
    Descriptor,
    ImageConfig,
    Manifest,
    parse_image_config,
    parse_image_document,
    select_platform,
)
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.pull.blob import verify_blob


def verify_pinned(data: bytes, pinned: Digest, content_type: str | None) -> Manifest | Descriptor:
    """Return the manifest that `pinned` names, or the index's descriptor for this platform.

    Raises:
        VerificationError: `pull.manifest_digest`.
        FormatError: `manifest.…`.
    """
    document = parse_image_document(verify_digest(data, pinned), content_type)
    return document if isinstance(document, Manifest) else select_platform(document)


def verify_digest(data: bytes, digest: Digest) -> bytes:
    """Return `data` if it is the manifest that `digest` names.

    Raises:
        VerificationError: `pull.manifest_digest`.
    """
    if sha256_digest(data) != digest:
        raise VerificationError("pull.manifest_digest", f"the registry's answer is not {digest}")
    return data


def verify_selected(data: bytes, selected: Descriptor, content_type: str | None) -> Manifest:
    """Return the manifest that an index has named.

    Raises:
        VerificationError: `pull.blob_size` or `pull.blob_digest`.
        FormatError: `manifest.…`.
    """
    document = parse_image_document(verify_blob(data, selected), content_type or None)
    if not isinstance(document, Manifest):
        raise FormatError("manifest.nested", "an index names another index")
    return document


def verify_documents(documents: tuple[bytes, ...], pinned: Digest) -> Manifest:
    """Return the manifest at the end of a chain of one or two documents.

    Raises:
        VerificationError: `pull.…`, a digest does not fit.
        FormatError: `manifest.…`, or `pull.documents`: the chain has the wrong length.
    """
    if not documents:
        raise FormatError("pull.documents", "no manifest")
    found = verify_pinned(documents[0], pinned, None)
    if isinstance(found, Manifest):
        if len(documents) != 1:
            raise FormatError("pull.documents", "a document that nothing names")
        return found
    if len(documents) != 2:
        raise FormatError("pull.documents", "expected an index and its manifest")
    return verify_selected(documents[1], found, found.media_type)


def verify_image(
    documents: tuple[bytes, ...], config: bytes, pinned: Digest, demanded: ImageEncryption
) -> tuple[Manifest, ImageConfig]:
    """Verify an image from its pinned digest to its config; return manifest and config.

    Raises:
        VerificationError: `pull.…`, a digest does not fit; `pull.encryption`.
        FormatError: `pull.documents`, `manifest.…`, `image_config.…`.
    """
    manifest = verify_encryption(verify_documents(documents, pinned), demanded)
    return manifest, verify_config(config, manifest)


def verify_encryption(manifest: Manifest, demanded: ImageEncryption) -> Manifest:
    """Return the manifest if its layers are encrypted as the pod manifest demands.

    Encryption is not integrity: the maker of a manifest can mix encrypted and plain layers. So an
    owner can demand that all be encrypted.

    Raises:
        VerificationError: `pull.encryption`.
    """
    for position, layer in enumerate(manifest.layers):
        is_encrypted = layer.encryption is not None
        if is_encrypted and demanded is ImageEncryption.NONE:
            raise VerificationError("pull.encryption", f"layer {position} is encrypted")
        if not is_encrypted and demanded is ImageEncryption.REQUIRED:
            raise VerificationError("pull.encryption", f"layer {position} is not encrypted")
    return manifest


def verify_config(data: bytes, manifest: Manifest) -> ImageConfig:
    """Return the config that `manifest` names; it must have a diff_id for each layer.

    Raises:
        VerificationError: `pull.blob_size` or `pull.blob_digest`.
        FormatError: `image_config.…`.
    """
    config = parse_image_config(verify_blob(data, manifest.config))
    if len(config.diff_ids) != len(manifest.layers):
        raise FormatError(
            "image_config.diff_ids", f"{len(config.diff_ids)} for {len(manifest.layers)} layers"
        )
    return config
