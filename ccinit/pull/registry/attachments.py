"""Fetching an image's signatures: what is attached to its manifest and to its index.

Three places, all of them looked at (cosign's SIGNATURE_SPEC.md; distribution-spec v1.1, "Listing
Referrers"): the tag `sha256-<hex>.sig`; the list of referrers; and, where the registry has no such
list, the tag `sha256-<hex>`. The results are only bytes with the digests that their manifests name;
a child without a network decides whether any of them are signatures (`signature`).
"""

from collections.abc import Iterator
from urllib.parse import urljoin

from ccinit.errors import FormatError, LimitExceededError, PeerError
from ccinit.formats.encoding.digest import Digest, sha256_digest
from ccinit.formats.oci.artifact import (
    MAX_ARTIFACT_BYTES,
    MAX_SIGNATURE_BYTES,
    MAX_SIGNATURES,
    parse_referrers,
    parse_signature_manifest,
    referrers_tag,
    signature_tag,
)
from ccinit.formats.oci.image import MediaType
from ccinit.net.http import HttpReply
from ccinit.pull.blob import verify_blob
from ccinit.pull.documents import verify_digest
from ccinit.pull.messages.fetch import AttachedManifest
from ccinit.pull.registry.client import Registry
from ccinit.pull.registry.web_link import find_link

MAX_FOUND_BYTES = 1 << 20
"""All manifests and blobs of one image together."""
_MAX_PAGES = 8
_NO_LIST = frozenset({303, 400, 405, 406})
"""What registries without such a list answer instead of distribution-spec's 404.

GitHub's redirects to web pages (303), Artifactory does not know the requested type (406), and
others call the request malformed (400) or unsupported (405, as in Docker's specification).
"""
_ACCEPT = (MediaType.OCI_MANIFEST.value, MediaType.OCI_INDEX.value, MediaType.DOCKER_MANIFEST.value)


def find_signatures(
    registry: Registry, documents: tuple[bytes, ...]
) -> tuple[AttachedManifest, ...]:
    """Fetch what is attached to an image's documents.

    Raises:
        LimitExceededError: `signature.…`, there is more than any image needs.
        FormatError: `signature.manifest.…`.
        CcinitError: `registry.…`, `net.…`, `pull.…`.
    """
    found: list[AttachedManifest] = []
    size = 0
    for document in documents:
        for manifest in _find_manifests(registry, sha256_digest(document)):
            if len(found) == MAX_SIGNATURES:
                raise LimitExceededError(
                    "signature.count",
                    f"more than {MAX_SIGNATURES} manifests of signatures are attached to the image",
                )
            attached = _fetch_blobs(registry, manifest)
            size += len(manifest) + sum(len(blob) for blob in attached.blobs)
            if size > MAX_FOUND_BYTES:
                raise LimitExceededError(
                    "signature.size", f"signatures of more than {MAX_FOUND_BYTES} bytes together"
                )
            found.append(attached)
    return tuple(found)


def _find_manifests(registry: Registry, image: Digest) -> Iterator[bytes]:
    tagged = registry.find(f"manifests/{signature_tag(image)}", MAX_ARTIFACT_BYTES, _ACCEPT)
    if tagged is not None:
        yield tagged.body
    for digest in _list_referrers(registry, image):
        reply = registry.find(f"manifests/{digest}", MAX_ARTIFACT_BYTES, _ACCEPT)
        if reply is not None:
            yield verify_digest(reply.body, digest)


def _list_referrers(registry: Registry, image: Digest) -> Iterator[Digest]:
    """Yield what the list names, page by page; the fallback tag's has one page."""
    path = f"referrers/{image}"
    reply = registry.find(path, MAX_ARTIFACT_BYTES, _ACCEPT, absent=_NO_LIST)
    if reply is None or (reply.header("content-type") or "").lower().startswith("text/"):
        tagged = registry.find(f"manifests/{referrers_tag(image)}", MAX_ARTIFACT_BYTES, _ACCEPT)
        if tagged is not None:
            yield from _read_tagged_list(tagged.body)
        return
    for _page in range(_MAX_PAGES):
        yield from parse_referrers(reply.body)
        query = _next_page(reply, path)
        if query is None:
            return
        reply = registry.find(f"{path}?{query}", MAX_ARTIFACT_BYTES, _ACCEPT)
        if reply is None:
            raise PeerError("registry.referrers", "a page that leads to none")
    raise LimitExceededError("signature.pages", f"more than {_MAX_PAGES} pages of referrers")


def _read_tagged_list(data: bytes) -> tuple[Digest, ...]:
    """Read what is under the fallback tag; anything but an index is no list.

    No registry watches what is pushed to that tag, and it may have another use.
    """
    try:
        return parse_referrers(data)
    except LimitExceededError:
        raise
    except FormatError:
        return ()


def _next_page(reply: HttpReply, path: str) -> str | None:
    """Return the query of the next page, which must be the same list's; None after the last."""
    target = find_link(reply.header_values("link"), "next")
    if target is None:
        return None
    before, mark, query = target.partition("?")
    try:
        is_same = urljoin(f"/v2/x/{path}", before).endswith(f"/{path}")
    except ValueError as error:
        raise PeerError("registry.referrers", "the next page is at no URL") from error
    if not mark or not is_same:
        raise PeerError("registry.referrers", "the next page is of another list")
    return query


def _fetch_blobs(registry: Registry, manifest: bytes) -> AttachedManifest:
    blobs = []
    for layer in parse_signature_manifest(manifest):
        if layer.blob.size > MAX_SIGNATURE_BYTES:
            raise LimitExceededError(
                "signature.size",
                f"expected at most {MAX_SIGNATURE_BYTES} bytes, found {layer.blob.size}",
            )
        reply = registry.find(f"blobs/{layer.blob.digest}", MAX_SIGNATURE_BYTES, ())
        if reply is None:
            raise PeerError("registry.not_found", "a signature that its manifest names")
        blobs.append(verify_blob(reply.body, layer.blob))
    return AttachedManifest(manifest=manifest, blobs=tuple(blobs))
