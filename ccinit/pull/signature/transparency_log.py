"""Proof that a log has recorded a signature: Rekor's promise, checked offline with a pinned key.

The promise must verify under one of the policy's keys, and the entry must name this signature,
payload and signer: an entry about another signature proves nothing (GHSA-whqx-f9j3-ch6m).
"""

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.signature.rekor import LogEntry, Recorded, parse_body
from ccinit.pull.signature.certificate import load_pem_certificates
from ccinit.pull.signature.public_key import (
    PublicKey,
    encode_public_key,
    load_public_key,
    verify_signature,
)

_ENTRY = "signature.log_entry"
_IS_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"

Signer = PublicKey | x509.Certificate


def load_log_key(pem: bytes) -> EllipticCurvePublicKey:
    """Load a log's key.

    Raises:
        FormatError: `policy.rekor_key`.
    """
    key = load_public_key(pem, "policy.rekor_key")
    if not isinstance(key, EllipticCurvePublicKey):
        raise FormatError("policy.rekor_key", "a log's key is on P-256 or P-384")
    return key


def verify_recorded(
    entry: LogEntry,
    log_keys: tuple[EllipticCurvePublicKey, ...],
    *,
    signer: Signer,
    signature: bytes,
    payload: bytes,
) -> int:
    """Return when a log recorded the signature, in seconds since 1970.

    Raises:
        VerificationError: `signature.log` (no key of the policy made the promise) or
            `signature.log_entry` (it is about something else).
        FormatError: `signature.rekor.…`.
    """
    # 1. the promise is by one of the policy's logs
    _verify_promise(entry, log_keys)
    # 2. the entry names signer, signature and payload
    recorded = parse_body(entry.body)
    if _recorded_signer(recorded) != _encode(signer):
        raise VerificationError(_ENTRY, "the entry is about another signer")
    if recorded.signature != signature:
        raise VerificationError(_ENTRY, "the entry is about another signature")
    if recorded.payload_sha256 != hashlib.sha256(payload).hexdigest():
        raise VerificationError(_ENTRY, "the entry is about another payload")
    return entry.integrated_time


def _verify_promise(entry: LogEntry, log_keys: tuple[EllipticCurvePublicKey, ...]) -> None:
    message = entry.signed_bytes()
    for key in log_keys:
        try:
            verify_signature(key, entry.promise, message)
        except VerificationError:
            continue
        return
    raise VerificationError("signature.log", "not a promise by a log of the policy")


def _encode(signer: Signer) -> bytes:
    if isinstance(signer, x509.Certificate):
        return signer.public_bytes(Encoding.DER)
    return encode_public_key(signer)


def _recorded_signer(recorded: Recorded) -> bytes:
    """Return the recorded key or certificate, DER."""
    try:
        if _IS_CERTIFICATE in recorded.verifier_pem:
            (certificate,) = load_pem_certificates(recorded.verifier_pem, _ENTRY)
            return _encode(certificate)
        return _encode(load_public_key(recorded.verifier_pem, _ENTRY))
    except (FormatError, ValueError) as error:
        raise VerificationError(_ENTRY, "names no signer") from error
