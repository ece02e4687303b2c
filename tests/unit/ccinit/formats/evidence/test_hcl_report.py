"""The paravisor's report: what is read of it, and every way in which it can be wrong."""

import hashlib
import json
from collections.abc import Callable

import pytest

from ccinit.errors import FormatError
from ccinit.formats.evidence.hcl_report import HardwareKind, parse_hcl_report
from tests.fakes.platforms.azure import SNP, TDX, encode_claims, encode_report

MODULUS = bytes(range(255, -1, -1))
USER_DATA = bytes(range(64))
CLAIMS = encode_claims(MODULUS, USER_DATA)
SNP_REPORT = bytes(range(148)) * 8
TD_REPORT = b"t" * 1024


@pytest.mark.parametrize(
    ("kind", "hardware", "expected"),
    [(SNP, SNP_REPORT, HardwareKind.SNP), (TDX, TD_REPORT, HardwareKind.TDX)],
)
def test_report_is_read(kind: int, hardware: bytes, expected: HardwareKind) -> None:
    report = parse_hcl_report(encode_report(kind, hardware, CLAIMS) + b"\xff" * 300)
    assert (report.kind, report.hardware) == (expected, hardware)
    assert (report.ak_modulus, report.ak_exponent) == (MODULUS, 65537)
    assert report.user_data == USER_DATA
    assert report.claims_digest == hashlib.sha256(CLAIMS).digest()


def test_members_that_are_not_known_may_come() -> None:
    claims = encode_claims(MODULUS, USER_DATA, **{"vm-unique-id": "x"})
    assert parse_hcl_report(encode_report(SNP, SNP_REPORT, claims)).user_data == USER_DATA


def rsa_key(**changes: object) -> dict[str, object]:
    return {"kid": "HCLAkPub", "kty": "RSA", "e": "AQAB", "n": "AQ", **changes}


def test_attestation_key_is_found_by_its_name_among_others() -> None:
    keys = [rsa_key(kid="HCLEkPub", n="Ag"), rsa_key(), rsa_key(kid=None, n="Aw")]
    claims = encode_claims(MODULUS, USER_DATA, keys=keys)
    assert parse_hcl_report(encode_report(SNP, SNP_REPORT, claims)).ak_modulus == b"\1"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        pytest.param(b"{", "hcl.claims.json", id="no JSON"),
        pytest.param(b"[]", "hcl.claims", id="no object"),
        pytest.param(encode_claims(MODULUS, USER_DATA, keys=1), "hcl.keys", id="no array"),
        pytest.param(encode_claims(MODULUS, USER_DATA, keys=[]), "hcl.keys", id="no key"),
        pytest.param(
            encode_claims(MODULUS, USER_DATA, keys=[rsa_key(), rsa_key()]),
            "hcl.keys",
            id="two keys of one name",
        ),
        pytest.param(
            encode_claims(MODULUS, USER_DATA, keys=[rsa_key(kty="EC")]), "hcl.keys", id="no RSA"
        ),
        pytest.param(
            encode_claims(MODULUS, USER_DATA, keys=[rsa_key(n="A=")]), "hcl.keys", id="no base64url"
        ),
        pytest.param(encode_claims(MODULUS, bytes(63)), "hcl.user_data", id="short user data"),
        pytest.param(
            encode_claims(MODULUS, USER_DATA, **{"user-data": 128}),
            "hcl.user_data",
            id="user data that are no text",
        ),
        pytest.param(
            encode_claims(MODULUS, USER_DATA, **{"user-data": USER_DATA.hex(" ")}),
            "hcl.user_data",
            id="user data, and white space",
        ),
        pytest.param(
            encode_claims(MODULUS, USER_DATA, **{"user-data": "00 \t" * 32}),
            "hcl.user_data",
            id="half of the user data, and white space",
        ),
        pytest.param(
            encode_claims(MODULUS, USER_DATA, **{"user-data": "g" * 128}),
            "hcl.user_data",
            id="user data in no hex",
        ),
    ],
)
def test_claims_that_cannot_be_read_are_refused(claims: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_hcl_report(encode_report(SNP, SNP_REPORT, claims))
    assert error.value.reason == reason


def test_report_from_before_the_guest_wrote_user_data_has_none() -> None:
    claims = json.loads(CLAIMS)
    del claims["user-data"]
    report = parse_hcl_report(encode_report(SNP, SNP_REPORT, json.dumps(claims).encode()))
    assert report.user_data == b""


GOOD = encode_report(SNP, SNP_REPORT, CLAIMS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda data: data[:1235], "hcl.truncated", id="without claims"),
        pytest.param(lambda data: data[:-1], "hcl.truncated", id="claims cut short"),
        pytest.param(lambda data: b"HCLB" + data[4:], "hcl.signature", id="another signature"),
        pytest.param(lambda data: data + bytes(8192), "hcl.size", id="too long"),
        pytest.param(
            lambda _data: encode_report(3, SNP_REPORT, CLAIMS), "hcl.report_type", id="of another"
        ),
        pytest.param(
            lambda _data: encode_report(SNP, SNP_REPORT, CLAIMS, hash_type=2),
            "hcl.hash",
            id="claims under another hash",
        ),
    ],
)
def test_changed_report_is_refused(change: Callable[[bytes], bytes], reason: str) -> None:
    assert parse_hcl_report(GOOD).hardware == SNP_REPORT
    with pytest.raises(FormatError) as error:
        parse_hcl_report(change(GOOD))
    assert error.value.reason == reason
