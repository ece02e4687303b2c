"""Certificates of the vendors that vouch for their platforms.

This module only reads them; which ones a platform's evidence has to chain to is its verifier's
business. None is built in: the owner fetches them from the vendor and registers them.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from ccinit.errors import FormatError
from ccinit.formats.evidence.tee import Tee

VENDOR_PLATFORMS = (Tee.SNP, Tee.TDX, Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM, Tee.SE, Tee.SVSM)
MAX_ROOT_BYTES = 64 * 1024
_MAX_CERTIFICATES = 8


def parse_platform(name: str) -> Tee:
    """Return the platform of that name, if a vendor vouches for it.

    Raises:
        FormatError: `root.platform`.
    """
    for tee in VENDOR_PLATFORMS:
        if tee.value == name:
            return tee
    raise FormatError("root.platform", f"no vendor signs for {name[:40]!r}")


def parse_certificates(pem: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a PEM file, DER each, in their order.

    Raises:
        FormatError: `root.form`.
    """
    with _allowing_serial_zero():
        try:
            certificates = x509.load_pem_x509_certificates(pem)
        except (ValueError, x509.InvalidVersion) as error:
            raise FormatError("root.form", "not certificates in PEM") from error
    if len(certificates) > _MAX_CERTIFICATES:
        raise FormatError("root.form", f"more than {_MAX_CERTIFICATES} certificates")
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)


def load_certificate(data: bytes, reason: str) -> x509.Certificate:
    """Return a vendor's certificate, DER or PEM.

    Raises:
        FormatError: with `reason`.
    """
    try:
        with _allowing_serial_zero():
            if data.startswith(b"-----"):
                certificate = x509.load_pem_x509_certificate(data)
            else:
                certificate = x509.load_der_x509_certificate(data)
        with warnings.catch_warnings():
            # The library parses names, and raises, only on access: access them here, and not first
            # in a comparison. About a text beyond the limits of X.520 it would only warn.
            warnings.simplefilter("error")
            _names = certificate.subject, certificate.issuer
    except (ValueError, TypeError, x509.InvalidVersion, UserWarning) as error:
        raise FormatError(reason, "not a certificate") from error
    return certificate


@contextmanager
def _allowing_serial_zero() -> Iterator[None]:
    """Accept serial number zero without a warning: AMD's chip certificates have it, despite RFC
    5280.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield
