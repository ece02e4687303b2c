"""The certificate of one boot: names, usage, dates, and the authority that signed it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from ccinit.errors import CcinitError
from guest_owner.plane.authority import create_authority, read_authority
from guest_owner.plane.minting import mint_identity


def mint(state: Path, life_seconds: int = 3600) -> tuple[bytes, x509.Certificate, str]:
    made = mint_identity(state, pod="shop", session="abcd", life_seconds=life_seconds)
    assert "PRIVATE" not in repr(made)
    return made.data, x509.load_pem_x509_certificate(made.data), made.fingerprint


def test_certificate_names_pod_and_session_and_is_for_servers(tmp_path: Path) -> None:
    authority = create_authority(tmp_path)
    data, certificate, fingerprint = mint(tmp_path)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["shop"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:ccinit:session:abcd"]
    assert certificate.subject.rfc4514_string() == "CN=abcd"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert certificate.fingerprint(SHA256()).hex() == fingerprint
    assert load_pem_private_key(data, None).public_key() == certificate.public_key()
    builder = PolicyBuilder().store(Store([authority.certificate]))
    assert builder.build_server_verifier(x509.DNSName("shop")).verify(certificate, [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("bank")).verify(certificate, [])


def test_each_has_a_key_of_its_own_and_a_short_life(tmp_path: Path) -> None:
    create_authority(tmp_path)
    first, second = (mint(tmp_path, 600)[1] for _ in range(2))
    assert first.public_key() != second.public_key()
    assert first.serial_number != second.serial_number
    left = first.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(seconds=590) < left <= timedelta(seconds=600)


def test_authority_is_made_once_and_kept_private(tmp_path: Path) -> None:
    made = create_authority(tmp_path)
    assert read_authority(tmp_path).certificate == made.certificate
    assert (tmp_path / "owner-ca-key.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(CcinitError) as refused:
        create_authority(tmp_path)
    assert refused.value.reason == "owner_ca.exists"


@pytest.mark.parametrize("name", ["owner-ca.pem", "owner-ca-key.pem"])
def test_without_an_authority_nothing_is_minted(tmp_path: Path, name: str) -> None:
    with pytest.raises(CcinitError) as refused:
        mint(tmp_path)
    assert refused.value.reason == "owner_ca.absent"
    create_authority(tmp_path)
    (tmp_path / name).write_bytes(b"-----BEGIN nothing")
    with pytest.raises(CcinitError) as refused:
        mint(tmp_path)
    assert refused.value.reason == "owner_ca.form"
