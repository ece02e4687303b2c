"""A guest's TLS identity: one key, then certificates, and nothing between."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding import wire
from ccinit.formats.kbs.tls_identity import (
    MAX_BYTES,
    MAX_CERTIFICATES,
    TlsIdentity,
    VerifiedIdentity,
    parse_tls_identity,
)
from ccinit.values import frozen
from tests.fakes.network.tls_server import Authority, make_authority

KEY = "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n"
LEAF = "-----BEGIN CERTIFICATE-----\nbGVh\nZg==\n-----END CERTIFICATE-----\n"
ROOT = "-----BEGIN CERTIFICATE-----\ncm9vdA==\n-----END CERTIFICATE-----\n"


def test_tls_identity_is_a_key_and_a_chain() -> None:
    identity = parse_tls_identity((KEY + LEAF + ROOT).encode())
    assert identity.certificate_der == b"leaf"
    assert identity == TlsIdentity(chain_der=(b"leaf", b"root"))


def test_lines_may_end_as_on_windows_and_the_last_one_not_at_all() -> None:
    text = (KEY + LEAF + ROOT).replace("\n", "\r\n")
    assert parse_tls_identity(text.encode()).chain_der == (b"leaf", b"root")
    assert parse_tls_identity(text.rstrip().encode()).chain_der == (b"leaf", b"root")


def test_tls_identity_has_up_to_eight_certificates() -> None:
    chain = LEAF + ROOT * (MAX_CERTIFICATES - 1)
    assert parse_tls_identity((KEY + chain).encode()).certificate_der == b"leaf"


def test_tls_identity_of_real_pem_has_the_certificates_own_bytes() -> None:
    authority: Authority = make_authority()
    identity = parse_tls_identity((KEY + authority.pem).encode())
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    assert identity.certificate_der == authority.certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "tls_identity.form", id="empty"),
        pytest.param(KEY, "tls_identity.form", id="no-certificate"),
        pytest.param(LEAF + KEY, "tls_identity.form", id="order"),
        pytest.param(KEY + KEY + LEAF, "tls_identity.form", id="two-keys"),
        pytest.param(KEY + LEAF * (MAX_CERTIFICATES + 1), "tls_identity.form", id="long-chain"),
        pytest.param(KEY + "note\n" + LEAF, "tls_identity.form", id="text-between"),
        pytest.param(KEY + "-----BEGIN -----\n" + LEAF, "tls_identity.form", id="no-label"),
        pytest.param("-----BEGIN -----\n" + KEY + LEAF, "tls_identity.form", id="no-label-first"),
        pytest.param("-----BEGIN ----\n" + KEY + LEAF, "tls_identity.form", id="no-begin"),
        pytest.param((KEY + LEAF).replace("\n", "\r"), "tls_identity.form", id="no-newlines"),
        pytest.param((KEY + LEAF).replace("\n", "\v"), "tls_identity.form", id="vertical-tabs"),
        pytest.param(KEY + LEAF[:-10], "tls_identity.form", id="cut-off"),
        pytest.param(KEY + LEAF + ROOT[:-10], "tls_identity.form", id="cut-off-later"),
        pytest.param(KEY + LEAF.replace("bGVh", "b!Vh"), "tls_identity.form", id="base64"),
        pytest.param(KEY + LEAF.replace("bGVh", "bGVh!"), "tls_identity.form", id="stray"),
        pytest.param(KEY + LEAF + "é", "tls_identity.form", id="not-ascii"),
        pytest.param(KEY.replace("PRIVATE", "RSA PRIVATE") + LEAF, "tls_identity.form", id="pkcs1"),
        pytest.param(KEY + LEAF + "x" * MAX_BYTES, "tls_identity.size", id="size"),
    ],
)
def test_tls_identity_of_another_form_is_refused(text: str, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_tls_identity(text.encode())
    assert caught.value.reason == reason
    assert "QUJD" not in str(caught.value)


@pytest.mark.parametrize(
    ("begins", "ends"),
    [(0, 2**63), (-(2**63), 0), (2**63, 2**63)],
    ids=["end", "begin", "both"],
)
def test_dates_that_no_certificate_has_are_refused_whoever_says_them(
    begins: int, ends: int
) -> None:
    """PID 1 writes them out; a child that lies about them must not end the guest."""
    last = 253_402_300_799
    good = wire.encode(VerifiedIdentity(top_der=b"", not_before=0, not_after=last))
    assert wire.decode(VerifiedIdentity, good).not_after == last
    said = wire.encode(_Dates(top_der=b"", not_before=begins, not_after=ends))
    with pytest.raises(FormatError) as caught:
        wire.decode(VerifiedIdentity, said)
    assert caught.value.reason == "tls_identity.form"


@frozen
class _Dates:
    """A VerifiedIdentity as a child may send it."""

    top_der: bytes
    not_before: int
    not_after: int
