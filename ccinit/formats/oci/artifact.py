"""Manifests that carry signatures, and the lists that lead to them.

There are two places (cosign's SIGNATURE_SPEC.md; distribution-spec v1.1, "Referrers"): a manifest
under the tag `sha256-<hex>.sig`, each of whose layers is a classic signature, and artifacts that
refer to the image, found through an index. Only the types of `SIGNATURE_TYPES` are read; whatever
else is attached to an image (SBOMs, attestations of other makers) does not concern the guest.
Bundles may hold those, too, in any size and number; they are skipped by an annotation that says so
(cosign's BUNDLE_SPEC.md).
"""

from collections.abc import Mapping

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.digest import Digest, parse_digest
from ccinit.formats.encoding.strict_json import JsonValue, parse_json
from ccinit.formats.oci.image import Descriptor, MediaType
from ccinit.values import frozen

MAX_ARTIFACT_BYTES = 512 * 1024
MAX_SIGNATURE_BYTES = 256 * 1024
"""One payload or bundle."""
MAX_SIGNATURES = 32
"""Of one manifest, and artifacts of one image."""
_MAX_REFERRERS = 1024
_MAX_ANNOTATION_BYTES = 64 * 1024

CLASSIC = "application/vnd.dev.cosign.simplesigning.v1+json"
CLASSIC_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNATURE_TYPES = (CLASSIC, BUNDLE)
ARTIFACT_TYPES = (
    CLASSIC_ARTIFACT,
    BUNDLE,
    # cosign 2 lists every artifact under the type of its empty config.
    "application/vnd.oci.empty.v1+json",
)
SIGNATURE_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
"""The type of the one statement that is a signature."""
_PREDICATE = "dev.sigstore.bundle.predicateType"

_WHERE = "signature.manifest"


@frozen
class SignatureLayer:
    """A blob with a classic payload or a bundle, and the annotations that belong to it."""

    blob: Descriptor
    annotations: Mapping[str, str]


def signature_tag(image: Digest) -> str:
    """Return the tag under which cosign keeps an image's signatures."""
    return f"sha256-{image.hex}.sig"


def referrers_tag(image: Digest) -> str:
    """Return the tag of the list of referrers, for registries without the API."""
    return f"sha256-{image.hex}"


def parse_signature_manifest(data: bytes) -> tuple[SignatureLayer, ...]:
    """Parse a manifest; layers of other types, and all layers of other statements, are skipped.

    Raises:
        FormatError: `signature.manifest.…`.
    """
    document = _document(data)
    if document.get("mediaType", MediaType.OCI_MANIFEST) not in (
        MediaType.OCI_MANIFEST,
        MediaType.DOCKER_MANIFEST,
    ):
        raise FormatError(f"{_WHERE}.media_type", "not an image manifest")
    if _has_other_statement(document):
        return ()
    return tuple(
        _read_layer(item)
        for item in _array(document.get("layers"), MAX_SIGNATURES)
        if not isinstance(item, Mapping) or item.get("mediaType") in SIGNATURE_TYPES
    )


def parse_referrers(data: bytes) -> tuple[Digest, ...]:
    """Parse the list of an image's referrers; return the manifests that carry signatures.

    Raises:
        FormatError: `signature.manifest.…`.
    """
    document = _document(data)
    if document.get("mediaType", MediaType.OCI_INDEX) != MediaType.OCI_INDEX:
        raise FormatError(f"{_WHERE}.media_type", "not an index")
    found = tuple(
        _descriptor(item).digest
        for item in _array(document.get("manifests"), _MAX_REFERRERS)
        if isinstance(item, Mapping)
        and item.get("artifactType") in ARTIFACT_TYPES
        and not _has_other_statement(item)
    )
    if len(found) > MAX_SIGNATURES:
        raise LimitExceededError(f"{_WHERE}.count", f"more than {MAX_SIGNATURES} artifacts")
    return found


def _has_other_statement(value: Mapping[str, JsonValue]) -> bool:
    """Whether a manifest, or its entry in a list, is annotated as a statement but no signature."""
    annotations = value.get("annotations")
    stated = annotations.get(_PREDICATE) if isinstance(annotations, Mapping) else None
    return bool(stated) and stated != SIGNATURE_PREDICATE


def _document(data: bytes) -> Mapping[str, JsonValue]:
    document = parse_json(data, _WHERE, MAX_ARTIFACT_BYTES)
    if not isinstance(document, Mapping) or document.get("schemaVersion") != 2:
        raise FormatError(f"{_WHERE}.schema", "expected schemaVersion 2")
    return document


def _read_layer(value: JsonValue) -> SignatureLayer:
    annotations = value.get("annotations") if isinstance(value, Mapping) else None
    return SignatureLayer(blob=_descriptor(value), annotations=_read_annotations(annotations or {}))


def _read_annotations(value: JsonValue) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise FormatError(f"{_WHERE}.annotations", "expected an object")
    read = {}
    for name, text in value.items():
        if not isinstance(text, str):
            raise FormatError(f"{_WHERE}.annotations", "expected texts")
        if len(text) > _MAX_ANNOTATION_BYTES:
            raise LimitExceededError(
                f"{_WHERE}.annotations", f"longer than {_MAX_ANNOTATION_BYTES} bytes"
            )
        read[name] = text
    return read


def _descriptor(value: JsonValue) -> Descriptor:
    if not isinstance(value, Mapping):
        raise FormatError(f"{_WHERE}.descriptor", "expected an object")
    media_type, digest, size = (value.get(name) for name in ("mediaType", "digest", "size"))
    if not isinstance(media_type, str) or not isinstance(digest, str):
        raise FormatError(f"{_WHERE}.descriptor", "expected mediaType and digest")
    if type(size) is not int or size < 0:
        raise FormatError(f"{_WHERE}.size", "a descriptor's size is a count of bytes")
    if size > MAX_ARTIFACT_BYTES:
        raise LimitExceededError(
            f"{_WHERE}.size", f"expected at most {MAX_ARTIFACT_BYTES} bytes, found {size}"
        )
    return Descriptor(
        media_type=media_type, digest=parse_digest(digest, f"{_WHERE}.digest"), size=size
    )


def _array(value: JsonValue, max_items: int) -> tuple[JsonValue, ...]:
    if not isinstance(value, list):
        raise FormatError(f"{_WHERE}.array", "expected an array")
    if len(value) > max_items:
        raise LimitExceededError(
            f"{_WHERE}.count", f"expected at most {max_items} items, found {len(value)}"
        )
    return tuple(value)
