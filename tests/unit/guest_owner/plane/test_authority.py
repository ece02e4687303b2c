"""The owner's small authority: what its certificates say, and what they are no good for."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from ccinit.errors import CcinitError, ConfigError, FormatError
from ccinit.formats.kbs.tls_identity import parse_tls_identity
from ccinit.formats.planes.owner_rpc import ClientRole
from guest_owner.plane.authority import (
    OwnerAuthority,
    create_authority,
    ensure_authority,
    read_authority,
)
from tests.fakes.machine.scarcity import room_for
from tests.unit.guest_owner.damaged_certificates import damaged_certificates


@pytest.fixture
def authority(tmp_path: Path) -> OwnerAuthority:
    return create_authority(tmp_path)


def leaf(pem: bytes) -> x509.Certificate:
    """Return the certificate of a key and its certificate; their form is that of a resource."""
    return x509.load_der_x509_certificate(parse_tls_identity(pem).certificate_der)


def names(certificate: x509.Certificate) -> list[object]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [name.value for name in extension.value]


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


@pytest.mark.parametrize("role", ClientRole)
def test_client_certificate_names_one_role_and_is_for_clients(
    authority: OwnerAuthority, role: ClientRole
) -> None:
    certificate = leaf(authority.issue_client("alice", role, 3))
    assert names(certificate) == [f"urn:ccinit:role:{role}"]
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate.verify_directly_issued_by(authority.certificate)


def test_guests_certificate_names_its_pod_and_is_for_servers(authority: OwnerAuthority) -> None:
    certificate = leaf(authority.issue_guest("shop", 3))
    assert names(certificate) == ["shop"]
    assert usages(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
    certificate.verify_directly_issued_by(authority.certificate)


def test_both_are_good_to_a_verifier_of_the_webs_profile(authority: OwnerAuthority) -> None:
    """Which refuses an extended key usage that is critical; each is still for its own end only."""
    guest = leaf(authority.issue_guest("shop", 3))
    client = leaf(authority.issue_client("alice", ClientRole.EXEC, 3))
    builder = PolicyBuilder().store(Store([authority.certificate]))
    as_server = builder.build_server_verifier(x509.DNSName("shop"))
    as_client = builder.build_client_verifier()
    assert as_server.verify(guest, [])
    assert as_client.verify(client, []).chain
    for verify, other in ((as_server.verify, client), (as_client.verify, guest)):
        with pytest.raises(VerificationError):
            verify(other, [])


def test_no_certificate_is_good_for_longer_than_the_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = "guest_owner.plane.authority.AUTHORITY_LIFE"
    with monkeypatch.context() as patched:
        patched.setattr(life, timedelta(days=30))
        authority = create_authority(tmp_path)
    ends = authority.certificate.not_valid_after_utc
    for pem in (
        authority.issue_client("a", ClientRole.LOGS, 90),
        authority.issue_guest("shop", 825),
    ):
        assert leaf(pem).not_valid_after_utc == ends
    assert leaf(authority.issue_client("a", ClientRole.LOGS, 3)).not_valid_after_utc < ends


def test_authority_that_has_ended_issues_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("guest_owner.plane.authority.AUTHORITY_LIFE", timedelta(seconds=-1))
        authority = create_authority(tmp_path)
    with pytest.raises(ConfigError) as caught:
        authority.issue_client("a", ClientRole.LOGS, 3)
    assert caught.value.reason == "owner_ca.ended"


def test_no_certificate_of_it_signs_others(authority: OwnerAuthority) -> None:
    for pem in (authority.issue_guest("shop", 3), authority.issue_client("a", ClientRole.ADMIN, 3)):
        constraints = leaf(pem).extensions.get_extension_for_class(x509.BasicConstraints)
        assert (constraints.value.ca, constraints.critical) == (False, True)


def test_authority_is_read_back(authority: OwnerAuthority, tmp_path: Path) -> None:
    again = read_authority(tmp_path)
    assert again.pem == authority.pem
    leaf(again.issue_guest("shop", 3)).verify_directly_issued_by(authority.certificate)
    assert (tmp_path / "owner-ca-key.pem").stat().st_mode & 0o077 == 0
    (tmp_path / "anybodys").touch(0o644)
    assert (tmp_path / "owner-ca.pem").stat().st_mode == (tmp_path / "anybodys").stat().st_mode


def test_authority_that_finds_no_room_leaves_nothing(tmp_path: Path) -> None:
    # Its key is shorter than that, its certificate is not.
    with room_for(400), pytest.raises(ConfigError) as caught:
        create_authority(tmp_path)
    assert caught.value.reason == "state.write"
    assert not list(tmp_path.glob("owner-ca*"))
    assert create_authority(tmp_path).pem == read_authority(tmp_path).pem


def test_second_authority_is_refused_or_not_made(tmp_path: Path) -> None:
    ensure_authority(tmp_path)
    authority = read_authority(tmp_path)
    ensure_authority(tmp_path)
    with pytest.raises(ConfigError) as caught:
        create_authority(tmp_path)
    assert caught.value.reason == "owner_ca.exists"
    assert read_authority(tmp_path).pem == authority.pem


@pytest.mark.parametrize("lost", ["owner-ca.pem", "owner-ca-key.pem"])
def test_half_of_an_authority_is_never_made_whole_by_another(
    authority: OwnerAuthority, tmp_path: Path, lost: str
) -> None:
    saved = (tmp_path / lost).read_bytes()
    (tmp_path / lost).unlink()
    for use in (create_authority, ensure_authority, read_authority):
        with pytest.raises(ConfigError, match="put the other back") as caught:
            use(tmp_path)
        assert caught.value.reason == "owner_ca.half"
    (tmp_path / lost).write_bytes(saved)
    assert read_authority(tmp_path).pem == authority.pem


def test_state_without_an_authority_says_so(tmp_path: Path) -> None:
    with pytest.raises(CcinitError, match="client-ca init") as absent:
        read_authority(tmp_path)
    assert absent.value.reason == "owner_ca.absent"
    create_authority(tmp_path)
    (tmp_path / "owner-ca-key.pem").write_text("no key")
    with pytest.raises(ConfigError) as caught:
        read_authority(tmp_path)
    assert caught.value.reason == "owner_ca.form"


def test_certificate_beside_another_authoritys_key_signs_nothing(
    authority: OwnerAuthority, tmp_path: Path
) -> None:
    """As a copy leaves them that was cut off; what such a key signs is nobody's to every guest."""
    own = (tmp_path / "owner-ca.pem").read_bytes()
    (tmp_path / "next").mkdir()
    (tmp_path / "owner-ca.pem").write_bytes(create_authority(tmp_path / "next").pem)
    with pytest.raises(ConfigError) as caught:
        read_authority(tmp_path)
    assert caught.value.reason == "owner_ca.key"
    assert f"{tmp_path / 'owner-ca-key.pem'} is not the key of owner-ca.pem" in caught.value.detail
    (tmp_path / "owner-ca.pem").write_bytes(own)
    assert read_authority(tmp_path).pem == authority.pem


def test_damaged_certificate_of_it_is_named(authority: OwnerAuthority, tmp_path: Path) -> None:
    """The library reads names and keys late, and each kind of damage is another exception to it."""
    path, told = tmp_path / "owner-ca.pem", set()
    for damaged in damaged_certificates(authority.pem):
        path.write_bytes(damaged)
        try:
            read_authority(tmp_path)
        except ConfigError as error:
            told.add(str(error))
    why = "not a certificate in PEM, or damaged"
    assert told == {str(ConfigError("owner_ca.form", f"{path}: {why}"))}
    path.write_bytes(authority.pem)
    assert read_authority(tmp_path).pem == authority.pem


@pytest.mark.parametrize("name", ["", "x" * 65, "line\nbreak"])
def test_names_that_would_confuse_a_log_are_refused(authority: OwnerAuthority, name: str) -> None:
    with pytest.raises(FormatError) as caught:
        authority.issue_client(name, ClientRole.LOGS, 3)
    assert caught.value.reason == "certificate.name"


@pytest.mark.parametrize("days", [-5, 0, 3651, 10**9])
def test_life_that_no_certificate_has_is_refused(authority: OwnerAuthority, days: int) -> None:
    assert authority.issue_guest("shop", 1)
    assert authority.issue_guest("shop", 3650)
    with pytest.raises(FormatError) as guest:
        authority.issue_guest("shop", days)
    with pytest.raises(FormatError) as client:
        authority.issue_client("alice", ClientRole.LOGS, days)
    assert guest.value.reason == client.value.reason == "certificate.days"
