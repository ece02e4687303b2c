"""Certificates of the vendors that speak for their platforms.

Which ones a platform's evidence has to chain to is its verifier's business; here they are only
read. Nothing is built in: the owner fetches them from the vendor and registers them.
"""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.errors import FormatError
from ccinit.formats.tee import Tee

VENDOR_PLATFORMS = (Tee.SNP, Tee.TDX)
MAX_ROOT_BYTES = 64 * 1024
_MAX_CERTIFICATES = 8


def parse_certificates(pem: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a PEM file, DER each, in their order.

    Raises:
        FormatError: `root.form`.
    """
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise FormatError("root.form", "not certificates in PEM") from error
    if len(certificates) > _MAX_CERTIFICATES:
        raise FormatError("root.form", f"more than {_MAX_CERTIFICATES} certificates")
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
