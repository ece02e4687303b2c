"""Which identities a guest would show, and by which check the others are refused."""

import datetime as dt

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import CcinitError, ConfigError, FormatError
from ccinit.formats.kbs.tls_identity import ExpectedIdentity, VerifiedIdentity
from ccinit.net.tls_identity import parse_asn1_time, verify_identity
from ccinit.secret import Secret
from tests.fakes.network.tls_server import (
    DAY,
    Authority,
    ec_key,
    identity_pem,
    make_authority,
    weak_key,
)

OWNER, FOREIGN, STRANGER = (make_authority(subject=name) for name in ("owner", "root", "stranger"))
MIDDLE = make_authority(subject="middle", under=FOREIGN)
SHOP = ("shop",)


def koblitz_key() -> ec.EllipticCurvePrivateKey:
    """A strong key that TLS 1.3 has no signature for (RFC 8446 section 4.2.3)."""
    return ec.generate_private_key(ec.SECP256K1())


def der(authority: Authority) -> bytes:
    return authority.certificate.public_bytes(Encoding.DER)


def verify(
    pem: bytes, *, root: Authority = OWNER, top_der: bytes = b"", check_time: bool = True
) -> VerifiedIdentity:
    expected = ExpectedIdentity(pod="shop", roots_pem=root.pem, top_der=top_der)
    with Secret(pem) as identity:
        return verify_identity(identity, expected, check_time=check_time)


def refusal(
    pem: bytes, *, root: Authority = OWNER, top_der: bytes = b"", check_time: bool = True
) -> str:
    with pytest.raises(CcinitError) as caught:
        verify(pem, root=root, top_der=top_der, check_time=check_time)
    return caught.value.reason


def test_identity_under_the_owners_authority_is_taken_with_its_dates() -> None:
    issued = OWNER.issue(SHOP, age=DAY, life=2 * DAY)
    certificate = issued[1]
    assert verify(identity_pem(issued)) == VerifiedIdentity(
        top_der=certificate.public_bytes(Encoding.DER),
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
    )


def test_successor_under_the_owners_authority_is_taken_whatever_the_first_led_to() -> None:
    pem = identity_pem(OWNER.issue(SHOP))
    assert verify(pem, top_der=der(FOREIGN)).not_after == verify(pem).not_after


@pytest.mark.parametrize(
    "above", [(), (MIDDLE,), (MIDDLE, FOREIGN)], ids=["no-chain", "up-to-the-middle", "whole"]
)
def test_first_identity_may_lead_to_a_root_that_the_guest_does_not_know(
    above: tuple[Authority, ...],
) -> None:
    first = verify(identity_pem(MIDDLE.issue(SHOP), *above))
    successor = identity_pem(MIDDLE.issue(SHOP), *above)
    if above:
        assert first.top_der == der(above[-1])
        assert verify(successor, top_der=first.top_der).top_der == first.top_der
    else:  # then nobody can say who issued the next one
        assert refusal(successor, top_der=first.top_der) == "tls_identity.chain"


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (identity_pem(OWNER.issue(("bank",))), "tls_identity.name"),
        (identity_pem(OWNER.issue((), subject="shop")), "tls_identity.name"),
        (
            identity_pem(OWNER.issue(SHOP, usage=ExtendedKeyUsageOID.CLIENT_AUTH)),
            "tls_identity.usage",
        ),
        (identity_pem((ec_key(), OWNER.issue(SHOP)[1])), "tls_identity.key"),
        (identity_pem(OWNER.issue(SHOP, key=weak_key())), "tls_identity.key"),
        (identity_pem(OWNER.issue(SHOP, key=koblitz_key())), "tls_identity.key"),
        (identity_pem(MIDDLE.issue(SHOP), STRANGER), "tls_identity.chain"),
        (identity_pem(MIDDLE.issue(SHOP), STRANGER, FOREIGN), "tls_identity.chain"),
        (identity_pem(OWNER.issue(SHOP))[1:], "tls_identity.form"),
    ],
    ids=["name", "common-name", "usage", "key", "weak", "curve", "chain", "gap", "form"],
)
def test_identity_that_no_owners_client_would_take_is_refused(pem: bytes, reason: str) -> None:
    """At boot as later: neither a clock nor an earlier identity is needed to see it."""
    assert refusal(pem, check_time=False) == reason
    assert refusal(pem, top_der=der(FOREIGN)) == reason
    verify(identity_pem(OWNER.issue(SHOP)), top_der=der(FOREIGN))


@pytest.mark.parametrize("above", [(), (STRANGER,)], ids=["alone", "with-its-root"])
def test_successor_has_to_lead_where_the_first_one_led(above: tuple[Authority, ...]) -> None:
    pem = identity_pem(STRANGER.issue(SHOP), *above)
    verify(pem)
    assert refusal(pem, top_der=der(FOREIGN)) == "tls_identity.chain"
    verify(identity_pem(FOREIGN.issue(SHOP), *above), top_der=der(FOREIGN))


def test_successor_has_to_bring_along_what_its_clients_need() -> None:
    """Who trusts the root alone is shown the way there by the chain, or refuses it."""
    alone = identity_pem(MIDDLE.issue(SHOP))
    for root, top in ((FOREIGN, STRANGER), (OWNER, MIDDLE)):  # as such a client sees it; the guest
        assert refusal(alone, root=root, top_der=der(top)) == "tls_identity.chain"
        for above in ((MIDDLE,), (MIDDLE, FOREIGN)):
            pem = identity_pem(MIDDLE.issue(SHOP), *above)
            verify(pem, root=root, top_der=der(top))


@pytest.mark.parametrize(
    ("age", "life"), [(2 * DAY, DAY), (-DAY, 2 * DAY)], ids=["ended", "not-begun"]
)
def test_dates_count_as_soon_as_there_is_a_clock(age: dt.timedelta, life: dt.timedelta) -> None:
    pem = identity_pem(OWNER.issue(SHOP, age=age, life=life))
    assert refusal(pem) == "tls_identity.time"
    found = verify(pem, check_time=False)
    assert found.not_after - found.not_before == life.total_seconds()


def test_certificate_that_is_only_pem_is_refused() -> None:
    pem = identity_pem(OWNER.issue(SHOP))
    begin, end = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
    assert refusal(pem + begin + b"AAAA\n" + end) in {"tls_identity.form", "tls_identity.key"}


def test_roots_that_are_none_are_the_configurations_fault() -> None:
    expected = ExpectedIdentity(pod="shop", roots_pem="no certificate")
    with Secret(identity_pem(OWNER.issue(SHOP))) as identity, pytest.raises(ConfigError) as caught:
        verify_identity(identity, expected, check_time=False)
    assert caught.value.reason == "net.roots"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Jan  1 00:00:00 1970 GMT", 0),
        ("Nov 26 12:51:36 2026 GMT", 1_795_697_496),
        ("Dec 31 23:59:59 9999 GMT", 253_402_300_799),
    ],
)
def test_dates_are_read_as_openssl_prints_them(text: str, seconds: int) -> None:
    assert parse_asn1_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Nov 26 2026",
        "Foo 26 12:51:36 2026 GMT",
        "Nov x 1:2 3 GMT",
        "Jan  1 00:00:00 0 GMT",
        "Bad time value",
    ],
)
def test_date_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_asn1_time(text)
    assert caught.value.reason == "tls_identity.form"
