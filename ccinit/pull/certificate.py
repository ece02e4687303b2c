"""X.509 certificates from a policy or a signature, loaded with one kind of error.

What a certificate says is decoded by the library when it is first looked at, so some mistakes show
up later; `MALFORMED` names what they raise. Whether a certificate is good is `fulcio`'s business.
"""

import warnings
from collections.abc import Callable
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from ccinit.errors import FormatError

T = TypeVar("T")

MAX_CERTIFICATES = 8
MALFORMED = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,
)


def load_pem_certificates(pem: bytes, reason: str) -> tuple[x509.Certificate, ...]:
    """Load PEM certificates, at least one.

    Raises:
        FormatError: with `reason`.
    """
    certificates = tuple(_load(x509.load_pem_x509_certificates, pem, reason))
    if len(certificates) > MAX_CERTIFICATES:
        raise FormatError(reason, f"more than {MAX_CERTIFICATES} certificates")
    return certificates


def load_der_certificate(der: bytes, reason: str) -> x509.Certificate:
    """Load one DER certificate.

    Raises:
        FormatError: with `reason`.
    """
    return _load(x509.load_der_x509_certificate, der, reason)


def _load(load: Callable[[bytes], T], data: bytes, reason: str) -> T:
    with warnings.catch_warnings():
        # What the library will refuse in a later release is refused now.
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        try:
            return load(data)
        except MALFORMED as error:
            raise FormatError(reason, "not a certificate") from error
