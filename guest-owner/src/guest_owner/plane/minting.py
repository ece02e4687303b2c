"""TLS identities of guests, one for each session: a key and a certificate that the KBS gives out.

An attested TLS handshake can be relayed; a certificate that only an attested guest was given cannot
be shown by another. The data of a `tls-identity` resource is PEM: the PKCS#8 key, then the guest's
certificate. The certificate names the pod as its one DNS name, which the owner's tools expect, and
the session of the audit log in which it was given as common name and URI; it is for servers only
and lives briefly. Who may have one is decided before (`guest_owner.kbs.broker`).
"""

from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from guest_owner.certificates import certificate_builder, key_usage, private_pem
from guest_owner.kbs.minting import MintedIdentity
from guest_owner.plane.authority import OwnerAuthority, read_authority

SESSION_URI_PREFIX: Final = "urn:ccinit:session:"


class TlsIdentityMinter:
    """Makes identities under the owner-plane authority of a state directory."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def __call__(self, *, pod: str, session: str, life_seconds: int) -> MintedIdentity:
        """Make a key and a certificate.

        Raises:
            ConfigError: the state directory has no authority.
        """
        authority = read_authority(self._state)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(
            authority, key.public_key(), pod, session, timedelta(seconds=life_seconds)
        )
        return MintedIdentity(
            data=private_pem(key) + certificate.public_bytes(Encoding.PEM),
            fingerprint=certificate.fingerprint(SHA256()).hex(),
        )


def _sign(
    authority: OwnerAuthority,
    public_key: ec.EllipticCurvePublicKey,
    pod: str,
    session: str,
    life: timedelta,
) -> x509.Certificate:
    names = (x509.DNSName(pod), x509.UniformResourceIdentifier(SESSION_URI_PREFIX + session))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, session)])
    return (
        certificate_builder(subject, authority.certificate.subject, public_key, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .sign(authority.key, SHA256())
    )
