"""X.509 certificates from a policy or a signature, loaded with one kind of error.

What a certificate says is decoded by the library when it is first looked at, so some mistakes show
up later; `MALFORMED` names what they raise. Whether a certificate is good is `fulcio`'s business.
"""

import warnings
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from ccinit.errors import FormatError

MAX_CERTIFICATES = 8
MALFORMED = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    LookupError,  # of a text in UTF-16 or UTF-32, for which a guest has no codec
    UserWarning,  # of what will be refused by the library's next version, where it is an error
)


def load_pem_certificates(pem: bytes, reason: str) -> tuple[x509.Certificate, ...]:
    """Load PEM certificates, at least one.

    Raises:
        FormatError: with `reason`.
    """
    certificates = _load(x509.load_pem_x509_certificates, pem, reason)
    if len(certificates) > MAX_CERTIFICATES:
        raise FormatError(reason, f"more than {MAX_CERTIFICATES} certificates")
    return certificates


def load_der_certificate(der: bytes, reason: str) -> x509.Certificate:
    """Load one DER certificate.

    Raises:
        FormatError: with `reason`.
    """
    (certificate,) = _load(lambda data: [x509.load_der_x509_certificate(data)], der, reason)
    return certificate


def _load(
    load: Callable[[bytes], list[x509.Certificate]], data: bytes, reason: str
) -> tuple[x509.Certificate, ...]:
    with warnings.catch_warnings():
        # What the library only warns of now is malformed, too.
        warnings.simplefilter("error")
        try:
            certificates = load(data)
            # Names are decoded now, and not amid the library's verification of a chain, which lets
            # through what they raise: a TypeError for one that is bits.
            _names = [(certificate.subject, certificate.issuer) for certificate in certificates]
        except (*MALFORMED, TypeError) as error:
            raise FormatError(reason, "not a certificate") from error
    return tuple(certificates)
