"""Client certificates that `manifest check` and the guest's TLS judge alike."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ccinit.errors import ConfigError
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.net.tls import pinned_context, present_certificate
from guest_owner.manifest.certificates import find_bad_certificates
from tests.fakes.documents.guest import POD
from tests.fakes.network.tls_server import make_authority

AUTHORITY = make_authority()
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def certify(key: Key) -> tuple[str, bytes]:
    """Return a certificate of the key, and the key, PEM."""
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    certificate = builder.public_key(key.public_key()).sign(key, digest)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), private


def owner_finds(certificate: str) -> list[tuple[str, str]]:
    registry = (
        f"[[registry]]\nlocation = 'in.example'\nkey = 'kbs:///a/b/c'\nca = '''{AUTHORITY.pem}'''\n"
        f"certificate = '''\n{certificate}'''\n"
    )
    pod = POD.replace('"-----BEGIN CERTIFICATE-----"', f"'''{AUTHORITY.pem}'''") + registry
    return list(find_bad_certificates(parse_pod_manifest(pod), None))


def guest_presents(certificate: str, private: bytes) -> None:
    context = pinned_context(AUTHORITY.pem, check_time=True)
    present_certificate(context, certificate.encode() + private, "net.client_certificate")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.generate_private_key(ec.SECP256R1()), id="P-256"),
        pytest.param(ec.generate_private_key(ec.SECP384R1()), id="P-384"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), id="Ed25519"),
        pytest.param(rsa.generate_private_key(65537, 2048), id="RSA-2048"),
    ],
)
def test_certificate_that_the_guest_presents_is_taken(key: Key) -> None:
    certificate, private = certify(key)
    guest_presents(certificate, private)
    assert owner_finds(certificate) == []


def test_certificate_that_is_too_weak_for_the_guest_is_found() -> None:
    certificate, private = certify(rsa.generate_private_key(65537, 1024))  # noqa: S505
    with pytest.raises(ConfigError) as refused:
        guest_presents(certificate, private)
    assert owner_finds(certificate) == [
        (refused.value.reason, "registry in.example, certificate: ee key too small")
    ]
