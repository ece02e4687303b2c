from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store

from ccinit.errors import CcinitError, ConfigError
from guest_owner.files import write_atomically
from guest_owner.kbs.authority import create_identity, write_identity
from guest_owner.kbs.server_certificate import (
    certificate_warnings,
    read_certificate,
    renew_certificate,
)
from tests.unit.guest_owner.damaged_certificates import damaged_certificates

IDENTITY = create_identity(("kbs.example", "10.0.2.2"))
OTHER = create_identity(("kbs.example",))


@pytest.fixture
def kbs(tmp_path: Path) -> Path:
    write_identity(tmp_path, IDENTITY)
    return tmp_path


def verify(kbs: Path, name: str) -> None:
    """Verify what the KBS would show, as a client does that pins its first authority."""
    store = Store([x509.load_pem_x509_certificate(IDENTITY.authority)])
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName(name))
    verifier.verify(read_certificate(kbs / "server.pem"), [])


@pytest.mark.usefixtures("usual_umask")
def test_renewed_certificate_is_good_for_those_who_pinned_the_authority(kbs: Path) -> None:
    renew_certificate(kbs, ())
    verify(kbs, "kbs.example")
    leaf = read_certificate(kbs / "server.pem")
    key = load_pem_private_key((kbs / "server-key.pem").read_bytes(), None)
    assert key.public_key() == leaf.public_key()
    assert (kbs / "server-key.pem").stat().st_mode & 0o777 == 0o600
    assert (kbs / "server.pem").stat().st_mode & 0o777 == 0o644
    assert (kbs / "server-key.pem").read_bytes() != IDENTITY.certificate_key
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.2.2"]


def test_renewed_certificate_may_have_other_names(kbs: Path) -> None:
    renew_certificate(kbs, ("moved.example",))
    verify(kbs, "moved.example")


@pytest.mark.parametrize(
    ("present", "reason", "told"),
    [
        (b"", "tls.certificate", "give each name by which guests reach the KBS"),
        (IDENTITY.authority, "certificate.name", "at least one name"),
    ],
    ids=["damaged", "without names"],
)
def test_names_are_asked_for_if_the_present_certificate_has_none(
    kbs: Path, present: bytes, reason: str, told: str
) -> None:
    write_atomically(kbs / "server.pem", present)
    with pytest.raises(CcinitError, match=told) as caught:
        renew_certificate(kbs, ())
    assert caught.value.reason == reason
    assert (kbs / "server-key.pem").read_bytes() == IDENTITY.certificate_key
    renew_certificate(kbs, ("kbs.example",))
    verify(kbs, "kbs.example")


@pytest.mark.parametrize("key", [OTHER.authority_key, b"", IDENTITY.authority])
def test_key_of_another_authority_signs_nothing(kbs: Path, key: bytes) -> None:
    write_atomically(kbs / "ca-key.pem", key)
    with pytest.raises(CcinitError) as caught:
        renew_certificate(kbs, ())
    assert caught.value.reason == "authority.key"
    assert (kbs / "server.pem").read_bytes() == IDENTITY.certificate


@pytest.mark.parametrize("name", ["ca.pem", "server.pem"])
def test_damaged_certificate_is_named(kbs: Path, name: str) -> None:
    """By the look of each day, too, which would be the last one."""
    path, told = kbs / name, set()
    whole, now = path.read_bytes(), datetime.now(UTC)
    for damaged in damaged_certificates(whole):
        path.write_bytes(damaged)
        try:
            told |= set(certificate_warnings(kbs / "server.pem", kbs, now))
        except ConfigError as error:
            told.add(str(error))
    why = "not a certificate in PEM, or damaged"
    assert str(ConfigError("tls.certificate", f"{path}: {why}")) in told
    assert any("is not signed by" in text for text in told)
    path.write_bytes(whole)
    assert not list(certificate_warnings(kbs / "server.pem", kbs, now))


@pytest.mark.parametrize(
    ("days_left", "word"), [(60, None), (59, "expires on"), (0, "expired on"), (-9, "expired on")]
)
def test_end_of_a_certificate_is_told_before_it_comes(
    kbs: Path, days_left: int, word: str | None
) -> None:
    path = kbs / "server.pem"
    now = read_certificate(path).not_valid_after_utc - timedelta(days=days_left)
    told = " ".join(certificate_warnings(path, kbs, now))
    assert (word in told) if word else not told
    assert told.endswith(": `guest-owner kbs new-certificate`" if word else "")


@pytest.mark.parametrize("days", [0, -1, -365])
def test_clock_that_is_behind_the_certificate_is_told(kbs: Path, days: int) -> None:
    """Guests would have that time for theirs, and end: their image was not made yet."""
    path = kbs / "server.pem"
    begin = read_certificate(path).not_valid_before_utc
    told = list(certificate_warnings(path, kbs, begin + timedelta(days=days)))
    here = f"guests are set by, says {begin + timedelta(days=days):%Y-%m-%d}"
    assert [here in one for one in told] == ([] if days == 0 else [True])


@pytest.mark.parametrize(
    ("days_left", "word"), [(365, None), (364, "expires on"), (-1, "expired on")]
)
def test_end_of_what_guests_have_pinned_is_told_a_year_before(
    kbs: Path, days_left: int, word: str | None
) -> None:
    owners = kbs / "owner-ca.pem"
    write_atomically(owners, IDENTITY.authority)
    # A server whose certificate was renewed meanwhile, but for what its authority's end leaves.
    now = read_certificate(owners).not_valid_after_utc - timedelta(days=days_left)
    told = [
        text
        for text in certificate_warnings(kbs / "server.pem", kbs, now, (owners, kbs / "none.pem"))
        if not text.startswith(f"{kbs / 'server.pem'} ")
    ]
    assert len(told) == (2 if word else 0)
    for text, path in zip(told, (kbs / "ca.pem", owners), strict=False):
        assert text.startswith(f"{path} {word} ")
        assert "Replacing an authority" in text


def test_renewed_certificate_ends_with_its_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guest_owner.kbs.authority.AUTHORITY_LIFE", timedelta(days=30))
    write_identity(tmp_path, create_identity(("kbs.example",)))
    authority = read_certificate(tmp_path / "ca.pem")
    for certificate in (
        read_certificate(tmp_path / "server.pem"),
        renew_certificate(tmp_path, ()),
    ):
        assert certificate.not_valid_after_utc == authority.not_valid_after_utc


def test_authority_that_has_ended_signs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guest_owner.kbs.authority.AUTHORITY_LIFE", timedelta(seconds=-1))
    identity = create_identity(("kbs.example",))
    write_identity(tmp_path, identity)
    with pytest.raises(CcinitError) as caught:
        renew_certificate(tmp_path, ())
    assert caught.value.reason == "authority.ended"
    assert (tmp_path / "server.pem").read_bytes() == identity.certificate


def test_certificate_of_another_authority_is_told_unless_it_is_from_elsewhere(
    kbs: Path, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    elsewhere = tmp_path / "elsewhere.pem"
    for path in (elsewhere, kbs / "server.pem"):
        write_atomically(path, OTHER.certificate)
    assert not list(certificate_warnings(elsewhere, kbs, now))
    (told,) = certificate_warnings(elsewhere, kbs, now + timedelta(days=800))
    assert "new-certificate" not in told
    # Nor has anybody pinned the authority that it is not of.
    (told,) = certificate_warnings(elsewhere, kbs, now + timedelta(days=3649))
    assert told.startswith(str(elsewhere))
    (told,) = certificate_warnings(kbs / "server.pem", kbs, now)
    assert "is not signed by" in told
