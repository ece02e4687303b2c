"""X.509 certificates from a policy or a signature, loaded with one kind of error.

The library decodes a certificate's fields on first access, so some errors show up late; `MALFORMED`
lists what these raise. `fulcio` decides whether a certificate is good.
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
    LookupError,  # for text in UTF-16 or UTF-32, for which a guest has no codec
    UserWarning,  # for what the library's next version will refuse, where made an error
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
        # What the library merely warns about counts as malformed, too.
        warnings.simplefilter("error")
        try:
            certificates = load(data)
            # Decode names now, not within the library's chain verification, which would let their
            # errors escape: a TypeError for a name that is a bit string.
            _names = [(certificate.subject, certificate.issuer) for certificate in certificates]
        except (*MALFORMED, TypeError) as error:
            raise FormatError(reason, "not a certificate") from error
    return tuple(certificates)
