import errno
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from ccinit.errors import CcinitError
from guest_owner.certificates import Authority, common_name, private_pem
from guest_owner.kbs.authority import (
    create_identity,
    read_token_key,
    sign_server,
    write_identity,
)
from tests.fakes.machine.scarcity import room_for

IDENTITY = create_identity(("kbs.example", "10.0.2.2", "fd00::2"))


def test_certificate_verifies_under_the_authority_for_its_names() -> None:
    authority = x509.load_pem_x509_certificate(IDENTITY.authority)
    leaf = x509.load_pem_x509_certificate(IDENTITY.certificate)
    builder = PolicyBuilder().store(Store([authority]))
    assert builder.build_server_verifier(x509.DNSName("kbs.example")).verify(leaf, [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("other.example")).verify(leaf, [])


def test_certificate_is_for_servers_only_and_signs_nothing() -> None:
    leaf = x509.load_pem_x509_certificate(IDENTITY.certificate)
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kbs.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.2.2", "fd00::2"]


@pytest.mark.parametrize(
    "own_name", [hashlib.sha256(b"key").digest()[:20], None], ids=["other", "none"]
)
def test_certificate_names_its_issuers_key_as_the_issuer_does(own_name: bytes | None) -> None:
    """Go 1.25 takes SHA-256 (RFC 7093); before, OpenSSL found no issuer of what was signed so."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), common_name("from elsewhere")
    certificate = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=subject,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=datetime.now(UTC),
        not_valid_after=datetime.now(UTC) + timedelta(days=1),
    )
    if own_name:
        certificate = certificate.add_extension(x509.SubjectKeyIdentifier(own_name), critical=False)
    authority = Authority(certificate=certificate.sign(key, SHA256()), key=key)
    leaf = sign_server(authority, key.public_key(), ("kbs.example",))
    named = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    sha1 = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    assert named.key_identifier == (own_name or sha1)


def test_each_key_is_its_own() -> None:
    keys = {
        IDENTITY.authority_key,
        IDENTITY.certificate_key,
        IDENTITY.token_key,
    }
    assert len(keys) == 3
    assert load_pem_private_key(IDENTITY.authority_key, None)


@pytest.mark.parametrize(
    "name",
    ["kbs", "kbs_1.internal", "*.kbs.example", "x" * 63, f"{'x' * 50}." * 4 + "x", "KBS.example"],
)
def test_create_identity_takes_names_that_a_url_can_have(name: str) -> None:
    leaf = x509.load_pem_x509_certificate(create_identity((name,)).certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]


@pytest.mark.parametrize(
    "names",
    [
        *((), ("",), ("kbs.ä",), ("kbs.example:8443",), ("https://kbs.example",), ("a b",)),
        *(("a\nb",), ("a..b",), ("-a",), ("x" * 64,), (f"{'x' * 50}." * 5 + "xxxx",), ("kbs", "")),
    ],
)
def test_create_identity_refuses_missing_and_foreign_names(names: tuple[str, ...]) -> None:
    with pytest.raises(CcinitError) as caught:
        create_identity(names)
    assert caught.value.reason == "certificate.name"


@pytest.mark.usefixtures("usual_umask")
def test_write_identity_keeps_keys_private_and_never_replaces(tmp_path: Path) -> None:
    write_identity(tmp_path, IDENTITY)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {
        "ca.pem": 0o644,
        "ca-key.pem": 0o600,
        "server.pem": 0o644,
        "server-key.pem": 0o600,
        "token-key.pem": 0o600,
    }
    with pytest.raises(CcinitError) as caught:
        write_identity(tmp_path, create_identity(("other",)))
    assert caught.value.reason == "identity.exists"
    assert (tmp_path / "ca.pem").read_bytes() == IDENTITY.authority


def test_identity_that_finds_no_room_leaves_nothing(tmp_path: Path) -> None:
    # Keys are shorter than that, certificates are not.
    with room_for(400), pytest.raises(CcinitError) as caught:
        write_identity(tmp_path, IDENTITY)
    assert caught.value.reason == "state.write"
    assert not list(tmp_path.iterdir())
    write_identity(tmp_path, IDENTITY)


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()])
def test_identity_that_is_cut_off_between_two_of_its_files_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    placed: list[Path] = []
    replace = Path.replace

    def place(path: Path, target: Path) -> Path:
        if len(placed) == 2:
            raise failure
        placed.append(target)
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", place)
        with pytest.raises((CcinitError, KeyboardInterrupt)):
            write_identity(tmp_path, IDENTITY)
    assert len(placed) == 2
    assert not list(tmp_path.iterdir())
    write_identity(tmp_path, IDENTITY)


def test_identity_that_was_cut_off_is_told_by_what_there_is(tmp_path: Path) -> None:
    write_identity(tmp_path, IDENTITY)
    for name in ("token-key.pem", "server.pem"):
        (tmp_path / name).unlink()
    with pytest.raises(CcinitError, match=r"only ca-key\.pem, ca\.pem, server-key\.pem") as caught:
        write_identity(tmp_path, create_identity(("other",)))
    assert caught.value.reason == "identity.half"
    assert (tmp_path / "ca.pem").read_bytes() == IDENTITY.authority


def test_read_token_key_refuses_what_is_no_p256_key(tmp_path: Path) -> None:
    write_identity(tmp_path, IDENTITY)
    assert isinstance(read_token_key(tmp_path).curve, ec.SECP256R1)
    other_curve = private_pem(ec.generate_private_key(ec.SECP384R1()))
    for text in (b"", IDENTITY.authority, other_curve):
        (tmp_path / "token-key.pem").write_bytes(text)
        with pytest.raises(CcinitError) as caught:
            read_token_key(tmp_path)
        assert caught.value.reason == "token_key.form"
