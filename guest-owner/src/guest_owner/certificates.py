"""Parts of certificates that the owner's authorities share (RFC 5280): names, dates, usages."""

import ipaddress
import re
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ccinit.errors import FormatError

_BACKDATE = timedelta(days=1)  # the peers' clocks may be behind
_ENDLESS = datetime.max.replace(tzinfo=UTC)
_MAX_NAME_CHARACTERS = 253
# RFC 1123 section 2.1 with `_`, which names inside of installations have; maybe any one label.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


_MALFORMED = (
    ValueError,
    TypeError,  # of a name that is bits
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def parse_certificate(pem: bytes) -> x509.Certificate:
    """Return the first certificate of a PEM text.

    The library reads most of it when it is asked for, and then raises: here all is asked for once.

    Raises:
        FormatError: `certificate.form`.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        _read = (
            certificate.subject,
            certificate.issuer,
            certificate.public_key(),
            certificate.extensions,
        )
    except _MALFORMED as error:
        raise FormatError("certificate.form", "not a certificate in PEM, or damaged") from error
    return certificate


def certificate_builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    life: timedelta,
    latest: datetime = _ENDLESS,
) -> x509.CertificateBuilder:
    """Return a builder with names, key, number and dates; it ends at `latest`, whatever its life.

    With its issuer's end there it says until when it is good, for a chain is not good any longer.
    """
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(min(now + life, latest))
    )


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return the one usage of a key: to sign certificates, or handshakes."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def general_name(name: str) -> x509.GeneralName:
    """Return a DNS name or IP address.

    Raises:
        FormatError: `certificate.name`.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    # With a port, a scheme or a space in it, it would be a certificate that fits no guest's URL.
    if len(name) > _MAX_NAME_CHARACTERS or not _DNS_NAME.fullmatch(name):
        raise FormatError("certificate.name", f"{name[:80]!r} is no DNS name or address")
    return x509.DNSName(name)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as PKCS#8 PEM, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
