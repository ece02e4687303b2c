"""The owner's small certificate authority for the owner plane.

    owner-ca.pem, owner-ca-key.pem    the authority, in the state directory

It is another one than the KBS's own (`guest_owner.kbs.authority`): that one is pinned by guests to
know their KBS, this one by the owner's tools to know a guest. P-256 with SHA-256 (RFC 5280).
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from ccinit.errors import ConfigError
from guest_owner.certificates import certificate_builder, key_usage, private_pem
from guest_owner.kbs.files import PRIVATE_MODE, PUBLIC_MODE, read_capped, write_atomically

AUTHORITY_LIFE: Final = timedelta(days=3650)
CERTIFICATE_FILE: Final = "owner-ca.pem"
KEY_FILE: Final = "owner-ca-key.pem"
MAX_PEM_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerAuthority:
    """An authority that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def create_authority(state: Path) -> OwnerAuthority:
    """Make an authority and write it into the state directory.

    Raises:
        ConfigError: `owner_ca.exists`: a new one would lock out every client and guest of the old.
    """
    if (state / KEY_FILE).exists():
        raise ConfigError("owner_ca.exists", f"{state / KEY_FILE} exists")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ccinit owner plane authority")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        certificate_builder(subject, subject, key.public_key(), AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, SHA256())
    )
    write_atomically(state / KEY_FILE, private_pem(key), mode=PRIVATE_MODE)
    pem = certificate.public_bytes(Encoding.PEM)
    write_atomically(state / CERTIFICATE_FILE, pem, mode=PUBLIC_MODE)
    return OwnerAuthority(certificate=certificate, key=key)


def read_authority(state: Path) -> OwnerAuthority:
    """Return the authority of a state directory.

    Raises:
        ConfigError: `owner_ca.form`, not what `create_authority` writes; `state.read`.
    """
    certificate, key = (
        read_capped(state / name, MAX_PEM_BYTES) for name in (CERTIFICATE_FILE, KEY_FILE)
    )
    try:
        parsed = load_pem_private_key(key, password=None)
        authority = x509.load_pem_x509_certificate(certificate)
    except (ValueError, TypeError) as error:
        raise ConfigError("owner_ca.form", f"{state} holds no authority") from error
    if not isinstance(parsed, ec.EllipticCurvePrivateKey):
        raise ConfigError("owner_ca.form", f"{state / KEY_FILE} is not an elliptic curve key")
    return OwnerAuthority(certificate=authority, key=parsed)
