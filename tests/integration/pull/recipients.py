"""Key pairs that images are encrypted to, as the files that skopeo takes."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """Files of one key pair; the certificate is the key's own word."""

    public: Path
    private: Path
    certificate: Path

    @property
    def private_pem(self) -> bytes:
        return self.private.read_bytes()


def make_recipient(directory: Path, key: PrivateKey) -> Recipient:
    """Write a key's three files into `directory`, which is made."""
    directory.mkdir(parents=True)
    recipient = Recipient(
        public=directory / "public.pem",
        private=directory / "private.pem",
        certificate=directory / "certificate.pem",
    )
    recipient.public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    recipient.private.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    recipient.certificate.write_bytes(_certify(key).public_bytes(Encoding.PEM))
    return recipient


def make_recipients(directory: Path) -> dict[str, Recipient]:
    """Return a recipient of each kind of key that the guest takes."""
    keys: dict[str, PrivateKey] = {
        "rsa": rsa.generate_private_key(65537, 2048),
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()),
    }
    return {name: make_recipient(directory / name, key) for name, key in keys.items()}


def _certify(key: PrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "recipient")])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
