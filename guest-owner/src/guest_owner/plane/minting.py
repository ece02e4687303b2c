"""TLS identities of guests, one for each session: a key and a certificate that the KBS gives out.

An attested TLS handshake can be relayed, but nobody else can use a key that only an attested guest
was given. The data of a `tls-identity` resource is PEM: the PKCS#8 key, then the guest's
certificate. Its only DNS name is the pod, as the owner's tools expect; common name and URI name the
session in the audit log. It is for servers only, and short-lived. `guest_owner.kbs.broker` decides
beforehand who gets one.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from guest_owner.certificates import common_name, private_pem
from guest_owner.kbs.minting import MintedIdentity
from guest_owner.plane.authority import read_authority

SESSION_URI_PREFIX: Final = "urn:ccinit:session:"


def mint_identity(state: Path, *, pod: str, session: str, life_seconds: int) -> MintedIdentity:
    """Make a key and a certificate under the owner-plane authority of a state directory.

    Given `state`, it is an `IdentityMinter`.

    Raises:
        ConfigError: the state directory has no authority.
    """
    authority = read_authority(state)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.sign(
        key.public_key(),
        subject=common_name(session),
        names=(x509.DNSName(pod), x509.UniformResourceIdentifier(SESSION_URI_PREFIX + session)),
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        ends=datetime.now(UTC) + timedelta(seconds=life_seconds),
    )
    return MintedIdentity(
        data=private_pem(key) + certificate.public_bytes(Encoding.PEM),
        fingerprint=certificate.fingerprint(SHA256()).hex(),
    )
