"""Certificates instead of keys: Fulcio's, under roots that the policy pins.

A certificate lives for minutes, so it is checked at the time when a log recorded the signature. It
must be for code signing, and name the issuer of the signer's identity and the signer's address. Its
SCT is not checked, for the reason that containers/image gives: the log that recorded the signature
has the certificate, too.
"""

import datetime as dt
import warnings

from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import VerificationError
from ccinit.formats.signature.image_policy import Fulcio
from ccinit.pull.signature.certificate import MALFORMED
from ccinit.pull.signature.public_key import PublicKey, check_public_key

_MAX_DEPTH = 4
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")  # its bytes are the text
_ISSUER_V2 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")  # a DER UTF8String
_UTF8_STRING = 0x0C
_REASON = "signature.certificate"
_MAX_TIME = 253_402_300_799  # the last second of year 9999


def verify_certificate(
    leaf: x509.Certificate,
    chain: tuple[x509.Certificate, ...],
    *,
    roots: tuple[x509.Certificate, ...],
    fulcio: Fulcio,
    seconds: int,
) -> PublicKey:
    """Return the key of a certificate that was valid when the log recorded the signature.

    Args:
        leaf: the signer's certificate.
        chain: untrusted intermediates that came with it.
        roots: the policy's.
        fulcio: who may sign.
        seconds: the log's time, since 1970.

    Raises:
        VerificationError: `signature.certificate` (chain, time or use), `signature.issuer`,
            `signature.subject`.
    """
    if not 0 <= seconds <= _MAX_TIME:
        raise VerificationError(_REASON, "the log's time is not a time")
    time = dt.datetime.fromtimestamp(seconds, dt.UTC)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what the library only warns of now is malformed, too
            # 1. the chain leads to a root, at that time; 2. for code signing
            verified = _verifier(roots, time).verify(leaf, list(chain))
            # 3. the identity's issuer; 4. the identity
            _verify_issuer(leaf, fulcio.oidc_issuer)
            _verify_subject(verified.chain[0], fulcio.subject_email)
            return check_public_key(leaf.public_key(), _REASON)
    except verification.VerificationError as error:
        raise VerificationError(_REASON, str(error)[:500]) from error
    except MALFORMED as error:
        raise VerificationError(_REASON, "a malformed certificate") from error


def _verifier(
    roots: tuple[x509.Certificate, ...], time: dt.datetime
) -> verification.ClientVerifier:
    agnostic = verification.Criticality.AGNOSTIC
    leaf = (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.ExtendedKeyUsage, agnostic, _check_extended_usage)
        .require_present(x509.SubjectAlternativeName, agnostic, None)
    )
    # That its basic constraints say `ca`, the library checks by itself.
    issuer = (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, agnostic, None)
        .require_present(x509.KeyUsage, agnostic, _check_usage)
    )
    return (
        verification.PolicyBuilder()
        .store(verification.Store(list(roots)))
        .time(time)
        .max_chain_depth(_MAX_DEPTH)
        .extension_policies(ee_policy=leaf, ca_policy=issuer)
        .build_client_verifier()
    )


def _check_extended_usage(
    _policy: verification.Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage
) -> None:
    if ExtendedKeyUsageOID.CODE_SIGNING not in usage:
        raise ValueError("not for code signing")


def _check_usage(
    _policy: verification.Policy, _certificate: x509.Certificate, usage: x509.KeyUsage
) -> None:
    if not usage.key_cert_sign:
        raise ValueError("the issuer may not issue")


def _verify_issuer(leaf: x509.Certificate, wanted: str) -> None:
    """Compare both forms of the issuer, so that a certificate cannot name two."""
    found = []
    for extension in leaf.extensions:
        if isinstance(extension.value, x509.UnrecognizedExtension):
            if extension.oid == _ISSUER:
                found.append(extension.value.value)
            elif extension.oid == _ISSUER_V2:
                found.append(_utf8_string(extension.value.value))
    if not found or any(text != wanted.encode() for text in found):
        raise VerificationError("signature.issuer", f"the identity is not from {wanted}")


def _utf8_string(data: bytes) -> bytes:
    """Read a DER UTF8String of less than 128 bytes; longer issuers do not occur."""
    if len(data) < 2 or data[0] != _UTF8_STRING or data[1] != len(data) - 2 or data[1] > 127:
        raise VerificationError("signature.issuer", "a malformed issuer")
    return data[2:]


def _verify_subject(leaf: x509.Certificate, wanted: str) -> None:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if wanted not in names.get_values_for_type(x509.RFC822Name):
        raise VerificationError("signature.subject", f"not issued for {wanted}")
