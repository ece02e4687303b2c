"""The job of the `signature` child: may this image be used, by the owner's policy?

It has no network, no files and no secrets. It verifies what the `registry` child found from
scratch: the documents must lead from the pinned digest to the manifest in use, and the signatures
are untrusted bytes. The policy's scope is looked up for the reference as the owner wrote it,
wherever the bytes came from.
"""

from collections.abc import Mapping, Sequence

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.oci.artifact import parse_signature_manifest
from ccinit.formats.oci.docker_reference import parse_docker_reference
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.formats.signature.image_policy import (
    AcceptAnything,
    KeySource,
    Reject,
    Requirement,
    SignedBy,
    SigstoreSigned,
    parse_image_policy,
)
from ccinit.pull.blob import verify_blob
from ccinit.pull.documents import verify_documents
from ccinit.pull.messages.fetch import AcceptedImage, AttachedManifest, SignatureRequest
from ccinit.pull.signature.certificate import load_pem_certificates
from ccinit.pull.signature.public_key import load_public_key
from ccinit.pull.signature.sigstore import (
    AttachedSignature,
    TrustRoot,
    UsedImage,
    verify_sigstore_signed,
)
from ccinit.pull.signature.transparency_log import load_log_key


def signature_job(request: SignatureRequest, _channel: object) -> AcceptedImage:
    """Accept an image, or refuse it.

    Raises:
        VerificationError: `policy.reject`, `policy.signed_by`, `signature.…`, `pull.…`.
        FormatError: `policy.…`: the policy; `manifest.…`, `signature.…`: the registry's bytes.
    """
    policy = parse_image_policy(request.policy.document)
    reference = parse_image_reference(request.reference)
    verify_documents(request.found.documents, reference.digest)
    image = UsedImage(
        reference=parse_docker_reference(request.reference, "reference.form"),
        documents={sha256_digest(document): document for document in request.found.documents},
    )
    signatures = [
        found for manifest in request.found.manifests for found in _read_manifest(manifest)
    ]
    keys = {key.resource: key.data for key in request.policy.keys}
    return AcceptedImage(
        documents=tuple(image.documents),
        reasons=tuple(
            _satisfy(requirement, keys, signatures, image)
            for requirement in policy.requirements_for(image.reference)
        ),
    )


def _satisfy(
    requirement: Requirement,
    keys: Mapping[str, bytes],
    signatures: Sequence[AttachedSignature],
    image: UsedImage,
) -> str:
    """Return the reason why a requirement is satisfied."""
    match requirement:
        case AcceptAnything():
            return "the policy accepts anything"
        case Reject():
            raise VerificationError("policy.reject", f"for {image.reference.text}")
        case SignedBy():
            raise VerificationError("policy.signed_by", "OpenPGP signatures are not supported")
        case SigstoreSigned():
            signer = verify_sigstore_signed(_load(requirement, keys), signatures, image)
            return f"signed by {signer}"


def _load(requirement: SigstoreSigned, keys: Mapping[str, bytes]) -> TrustRoot:
    fulcio = requirement.fulcio
    return TrustRoot(
        keys=tuple(load_public_key(_pem(key, keys), "policy.key") for key in requirement.keys),
        fulcio=fulcio,
        fulcio_roots=()
        if fulcio is None
        else load_pem_certificates(_pem(fulcio.roots, keys), "policy.fulcio"),
        log_keys=tuple(load_log_key(_pem(key, keys)) for key in requirement.rekor_keys),
        identity=requirement.identity,
    )


def _pem(source: KeySource, keys: Mapping[str, bytes]) -> bytes:
    if isinstance(source, bytes):
        return source
    if str(source) not in keys:
        raise FormatError("policy.key_path", f"{source} has not been released")
    return keys[str(source)]


def _read_manifest(attached: AttachedManifest) -> list[AttachedSignature]:
    layers = parse_signature_manifest(attached.manifest)
    if len(layers) != len(attached.blobs):
        raise FormatError("signature.manifest.count", f"{len(attached.blobs)} blobs")
    return [
        AttachedSignature(layer=layer, data=verify_blob(data, layer.blob))
        for layer, data in zip(layers, attached.blobs, strict=True)
    ]
