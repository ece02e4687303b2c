"""Whether one of an image's signatures satisfies a `sigstoreSigned` requirement.

One good signature is enough, others may be broken (containers/image; cosign). For each the steps
are, in this order:

    1. a log has recorded it, if the policy names logs                       `transparency_log`
    2. the signer's key: one of the policy's, or of a certificate that was
       good when the log recorded the signature                             `fulcio`
    3. the signature holds over the payload as it came                       `public_key`
    4. the payload vouches for the manifest or index in use
    5. and gives the image the name that the policy wants                    `signed_identity`

No payload is parsed before step 3. `judge` decides which requirement applies.
"""

from collections.abc import Callable, Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from ccinit.errors import CcinitError, FormatError, VerificationError
from ccinit.formats.encoding.digest import Digest, sha256_digest
from ccinit.formats.encoding.strict_json import decode_base64
from ccinit.formats.oci.artifact import BUNDLE, SignatureLayer
from ccinit.formats.oci.docker_reference import DockerReference
from ccinit.formats.signature.image_policy import Fulcio
from ccinit.formats.signature.in_toto import (
    PAYLOAD_TYPE,
    parse_statement,
    pre_authentication_encoding,
)
from ccinit.formats.signature.rekor import LogEntry, parse_set
from ccinit.formats.signature.signed_identity import SignedIdentity, verify_identity
from ccinit.formats.signature.sigstore_bundle import DsseEnvelope, MessageSignature, parse_bundle
from ccinit.formats.signature.simple_signing import SignedImage, parse_simple_signing
from ccinit.pull.signature.certificate import load_der_certificate, load_pem_certificates
from ccinit.pull.signature.fulcio import verify_certificate
from ccinit.pull.signature.public_key import PublicKey, verify_signature
from ccinit.pull.signature.transparency_log import Signer, verify_recorded
from ccinit.values import frozen

_SIGNATURE = "dev.cosignproject.cosign/signature"
_CERTIFICATE = "dev.sigstore.cosign/certificate"
_CHAIN = "dev.sigstore.cosign/chain"
_CERTIFICATE_REASON = "signature.certificate"
_SET = "dev.sigstore.cosign/bundle"


@frozen
class TrustRoot:
    """A requirement with its keys loaded."""

    keys: tuple[PublicKey, ...]
    fulcio: Fulcio | None
    fulcio_roots: tuple[x509.Certificate, ...]
    log_keys: tuple[EllipticCurvePublicKey, ...]
    identity: SignedIdentity


@frozen
class UsedImage:
    """The image in question.

    Attributes:
        reference: as the owner wrote it.
        documents: the manifest in use, and the index that led to it, by digest.
    """

    reference: DockerReference
    documents: Mapping[Digest, bytes]


@frozen
class AttachedSignature:
    """A blob of a signature manifest with its annotations; nothing of it is verified."""

    layer: SignatureLayer
    data: bytes


@frozen
class _Signed:
    """One signature in whichever form it came.

    Attributes:
        message: what the signature is over.
        payload: what a log records the hash of.
        read_claim: reads the payload once it is verified.
    """

    message: bytes
    payload: bytes
    signature: bytes
    certificate: x509.Certificate | None
    chain: tuple[x509.Certificate, ...]
    entries: tuple[LogEntry, ...]
    read_claim: Callable[[bytes], SignedImage]


@frozen
class _NamedKey:
    """A key that the signature may be by, and what to call its owner in the log."""

    key: PublicKey
    name: str


def verify_sigstore_signed(
    root: TrustRoot, signatures: Sequence[AttachedSignature], image: UsedImage
) -> str:
    """Return the signer, for the log, if one of the signatures satisfies the requirement.

    Raises:
        VerificationError: `signature.none` (there is none), `signature.…` (the only one's
            reason), `signature.refused` (several, none of them good).
        FormatError: the only one is malformed.
    """
    refused: list[CcinitError] = []
    for attached in signatures:
        try:
            return _verify_one(root, _read(root, attached, image), image)
        except (FormatError, VerificationError) as error:
            refused.append(error)
    if not refused:
        raise VerificationError("signature.none", f"{image.reference.text} has no signature")
    if len(refused) == 1:
        raise refused[0]
    reasons = "; ".join(str(error) for error in refused)
    raise VerificationError("signature.refused", f"{len(refused)} signatures: {reasons}"[:1000])


def _verify_one(root: TrustRoot, signed: _Signed, image: UsedImage) -> str:
    keys = _find_keys(root, signed)  # 1 and 2
    signer = _verify_by_one_of(keys, signed)  # 3
    claim = signed.read_claim(signed.payload)
    if not claim.digests & set(image.documents):  # 4
        raise VerificationError("signature.digest", "a signature for another image")
    verify_identity(root.identity, image.reference, claim.name)  # 5
    return signer


def _find_keys(root: TrustRoot, signed: _Signed) -> tuple[_NamedKey, ...]:
    """Return the keys that the signature may be by."""
    if root.fulcio is not None:
        return (_find_certified(root, root.fulcio, signed),)
    named = tuple(
        _NamedKey(key=key, name=f"key {position + 1} of the policy")
        for position, key in enumerate(root.keys)
    )
    if not root.log_keys:
        return named
    found = []
    error: CcinitError = VerificationError("signature.key", "the policy has no key")
    for one in named:
        try:
            _verify_logged(root, signed, one.key)
        except (FormatError, VerificationError) as refused:
            error = refused
        else:
            found.append(one)
    if not found:
        raise error
    return tuple(found)


def _find_certified(root: TrustRoot, fulcio: Fulcio, signed: _Signed) -> _NamedKey:
    if signed.certificate is None:
        raise VerificationError("signature.certificate", "the signature has no certificate")
    key = verify_certificate(
        signed.certificate,
        signed.chain,
        roots=root.fulcio_roots,
        fulcio=fulcio,
        seconds=_verify_logged(root, signed, signed.certificate),
    )
    return _NamedKey(key=key, name=fulcio.subject_email)


def _verify_by_one_of(keys: Sequence[_NamedKey], signed: _Signed) -> str:
    """Return the name of the key that the signature is by."""
    error: CcinitError = VerificationError("signature.key", "the policy has no key")
    for one in keys:
        try:
            verify_signature(one.key, signed.signature, signed.message)
        except VerificationError as refused:
            error = refused
        else:
            return one.name
    raise error


def _verify_logged(root: TrustRoot, signed: _Signed, signer: Signer) -> int:
    """Return when one of the policy's logs recorded the signature as this signer's."""
    error: CcinitError = VerificationError("signature.log", "no promise of a log")
    for entry in signed.entries:
        try:
            return verify_recorded(
                entry,
                root.log_keys,
                signer=signer,
                signature=signed.signature,
                payload=signed.payload,
            )
        except (FormatError, VerificationError) as refused:
            error = refused
    raise error


def _read(root: TrustRoot, attached: AttachedSignature, image: UsedImage) -> _Signed:
    """Parse a signature, and of what came with it only what the policy asks for."""
    if attached.layer.blob.media_type == BUNDLE:
        return _read_bundle(root, attached.data, image)
    return _read_classic(root, attached.data, attached.layer.annotations)


def _read_classic(root: TrustRoot, payload: bytes, annotations: Mapping[str, str]) -> _Signed:
    """Parse a payload whose signature, certificate and log entry are annotations."""
    text = annotations.get(_SIGNATURE, "").replace("\n", "")  # some signers leave newlines
    has_certificate = root.fulcio is not None and _CERTIFICATE in annotations
    return _Signed(
        message=payload,
        payload=payload,
        signature=decode_base64(text, "signature.base64"),
        certificate=_one_certificate(annotations[_CERTIFICATE]) if has_certificate else None,
        chain=_chain(annotations.get(_CHAIN, "")) if has_certificate else (),
        entries=(parse_set(annotations[_SET].encode()),)
        if root.log_keys and _SET in annotations
        else (),
        read_claim=parse_simple_signing,
    )


def _read_bundle(root: TrustRoot, data: bytes, image: UsedImage) -> _Signed:
    bundle = parse_bundle(data)
    read_claim: Callable[[bytes], SignedImage]
    if isinstance(bundle.content, MessageSignature):
        payload = message = _signed_document(bundle.content, image)
        read_claim = _read_document
    else:
        payload = bundle.content.payload
        message = _encode_envelope(bundle.content)
        read_claim = parse_statement
    der = None if root.fulcio is None else bundle.certificate
    return _Signed(
        message=message,
        payload=payload,
        signature=bundle.content.signature,
        certificate=None if der is None else load_der_certificate(der, _CERTIFICATE_REASON),
        chain=(),
        entries=bundle.entries,
        read_claim=read_claim,
    )


def _signed_document(content: MessageSignature, image: UsedImage) -> bytes:
    """Return the document that an artifact signature is over: the manifest or index itself."""
    document = image.documents.get(Digest(content.sha256.hex()))
    if document is None:
        raise VerificationError("signature.digest", "a signature for another image")
    return document


def _encode_envelope(envelope: DsseEnvelope) -> bytes:
    if envelope.payload_type != PAYLOAD_TYPE:
        raise FormatError("signature.payload.type", "an envelope without an in-toto statement")
    return pre_authentication_encoding(envelope.payload_type, envelope.payload)


def _read_document(document: bytes) -> SignedImage:
    """The payload is the document itself, which names no image."""
    return SignedImage(digests=frozenset({sha256_digest(document)}), name=None)


def _one_certificate(pem: str) -> x509.Certificate:
    certificates = load_pem_certificates(pem.encode(), _CERTIFICATE_REASON)
    if len(certificates) != 1:
        raise FormatError(_CERTIFICATE_REASON, "expected one certificate")
    return certificates[0]


def _chain(pem: str) -> tuple[x509.Certificate, ...]:
    return load_pem_certificates(pem.encode(), _CERTIFICATE_REASON) if pem else ()
