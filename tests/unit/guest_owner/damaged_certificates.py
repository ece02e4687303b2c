"""A certificate with one bit of it turned, as a disk or a copy by hand may leave it."""

import base64
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


def damaged_certificates(pem: bytes) -> Iterator[bytes]:
    """Yield it in PEM with each byte changed in turn; not its number's, for some are warned of."""
    certificate = x509.load_pem_x509_certificate(pem)
    whole = certificate.public_bytes(Encoding.DER)
    number = certificate.serial_number.to_bytes(20)
    start = whole.index(number.lstrip(b"\0"))
    for place in (*range(start), *range(start + 20, len(whole))):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        text = base64.encodebytes(bytes(damaged))
        yield b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"
