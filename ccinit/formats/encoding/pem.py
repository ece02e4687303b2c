"""Roots in a document of the owner's: PEM certificates (RFC 7468), of which only the form is seen.

What the certificates say is for TLS to find out, in the child that trusts them.
"""

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields

MAX_PEM_BYTES = 64 * 1024
_BEGIN = "-----BEGIN CERTIFICATE-----"


def read_roots(fields: Fields, key: str, reason: str) -> str:
    """Read PEM certificates.

    Raises:
        FormatError: with `reason`.
    """
    return check_roots(fields.text(key, max_bytes=MAX_PEM_BYTES), reason)


def read_optional_roots(fields: Fields, key: str, reason: str) -> str:
    """Read PEM certificates; empty if there are none.

    Raises:
        FormatError: with `reason`.
    """
    pem = fields.optional_text(key, max_bytes=MAX_PEM_BYTES)
    return check_roots(pem, reason) if pem else ""


def check_roots(pem: str, reason: str) -> str:
    """Return a text that holds certificates.

    Raises:
        FormatError: with `reason`.
    """
    if _BEGIN not in pem:
        raise FormatError(reason, "expected PEM certificates")
    return pem
