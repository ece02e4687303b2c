"""The owner's certificate authorities, and the certificates that they issue to peers (RFC 5280).

P-256 with SHA-256 throughout (RFC 5480). `guest_owner.kbs.authority` and
`guest_owner.plane.authority` say which authorities there are and for whom they sign.
"""

import ipaddress
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ccinit.errors import FormatError

_BACKDATE = timedelta(days=1)  # the peers' clocks may be behind
_MAX_NAME_CHARACTERS = 253
_MAX_COMMON_NAME_CHARACTERS = 64
# RFC 1123 section 2.1, plus `_`, which internal names contain; the first label may be a wildcard.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


MISMATCHES = frozenset({"KEY_TYPE_MISMATCH", "KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"""OpenSSL's reasons for a key that does not belong to a certificate; some depend on their kinds."""

_MALFORMED = (
    ValueError,
    TypeError,  # for a name that is a bit string
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def parse_certificate(pem: bytes) -> x509.Certificate:
    """Return the first certificate of a PEM text.

    The library parses most fields, and raises, only when they are accessed: so access each here.

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


def describe_unusable_pair(error: ssl.SSLError, certificate: bytes, key: bytes) -> str:
    """Say why OpenSSL does not accept a certificate and key, given the content of their files.

    OpenSSL itself names no reason if they are not PEM, or if the key has a passphrase.
    """
    if b"ENCRYPTED" in key:
        return "the key has a passphrase: remove it"
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        return "there is no certificate in PEM"
    if b"PRIVATE KEY-----" not in key:
        return "there is no private key in PEM"
    if error.reason in MISMATCHES:
        return "the key does not belong to the certificate"
    return error.reason or "one of them is cut short or damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A root that can sign: of the KBS, or of the owner plane."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, name: str, life: timedelta) -> Self:
        """Return a new authority that may sign certificates of peers, but no other authority's."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject, public_key = common_name(name), key.public_key()
        certificate = (
            _builder(subject, subject, public_key, datetime.now(UTC) + life)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key), critical=False
            )
            .sign(key, SHA256())
        )
        return cls(certificate=certificate, key=key)

    @property
    def pem(self) -> bytes:
        """The certificate in PEM, for those who pin it."""
        return self.certificate.public_bytes(Encoding.PEM)

    def end_of(self, life: timedelta) -> datetime:
        """Return when a certificate with this life, from now on, ends.

        It ends no later than the authority, since a chain is not valid for longer than that.
        """
        return min(datetime.now(UTC) + life, self.certificate.not_valid_after_utc)

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        *,
        subject: x509.Name,
        names: Iterable[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        ends: datetime,
    ) -> x509.Certificate:
        """Return a certificate for TLS handshakes, of a client or a server as `usage` says."""
        alternatives = x509.SubjectAlternativeName(names)
        return (
            _builder(subject, self.certificate.subject, public_key, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(alternatives, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(self._identifier(), critical=False)
            .sign(self.key, SHA256())
        )

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        """Return the key identifier that the authority's own certificate has.

        That certificate may have been made elsewhere, so its identifier need not be the SHA-1 of
        the key; with any other one TLS would not find the issuer (RFC 5280, section 4.2.1.2).
        """
        try:
            name = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(name.value)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _BACKDATE)
        .not_valid_after(ends)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return the one usage of a key: to sign certificates, or to sign handshakes."""
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


def common_name(text: str) -> x509.Name:
    """Return a name that is nothing but a common name.

    Raises:
        FormatError: `certificate.name`.
    """
    if not text or len(text) > _MAX_COMMON_NAME_CHARACTERS or not text.isprintable():
        raise FormatError(
            "certificate.name", f"expected 1 to {_MAX_COMMON_NAME_CHARACTERS} printable characters"
        )
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def general_name(name: str) -> x509.GeneralName:
    """Return a DNS name or IP address.

    Raises:
        FormatError: `certificate.name`.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    # A name with a port, a scheme or a space would match no guest's URL.
    if len(name) > _MAX_NAME_CHARACTERS or not _DNS_NAME.fullmatch(name):
        raise FormatError("certificate.name", f"{name[:80]!r} is not a DNS name or address")
    return x509.DNSName(name)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as PKCS#8 PEM, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
