"""Who signed a token: each way to choose one's own key or algorithm is refused by name."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import encode_base64url
from guest_owner.kbs.passports.issuer import Issuer
from guest_owner.kbs.passports.key_set import Algorithm
from guest_owner.kbs.passports.signature import MAX_PASSPORT_BYTES, name_issuer, verify_signature
from tests.fakes.kbs.attestation_tokens import AZURE, Claims, FakeIssuer
from tests.unit.guest_owner.kbs.passports.passport_values import (
    AZURE_SIGNER,
    INTEL_SIGNER,
    KINDS,
    azure_issuer,
    intel_issuer,
)

BOTH = (azure_issuer(), intel_issuer())
STRANGER = FakeIssuer(iss=AZURE, kid=AZURE_SIGNER.kid, key_label="stranger")


def claims() -> Claims:
    return KINDS["azure snp"].claims()


def refused(token: str, issuers: tuple[Issuer, ...] = BOTH) -> str:
    with pytest.raises(CcinitError) as caught:
        verify_signature(token, issuers)
    return caught.value.reason


@pytest.mark.parametrize("name", KINDS)
def test_genuine_token_is_its_issuers(name: str) -> None:
    kind = KINDS[name]
    signed = verify_signature(kind.token(), BOTH)
    assert signed.issuer.name == name.split(maxsplit=1)[0]
    assert signed.claims["iss"] == kind.signer.iss == name_issuer(kind.token())


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"kid": "another"}, "passport.key"),
        ({"kid": None}, "passport.key"),
        ({"kid": ["J0pAPdfXXHqWWimgrH853w="]}, "passport.key"),
        ({"typ": "JWE"}, "passport.header"),
        ({"crit": ["exp"]}, "passport.header"),
        ({"b64": False}, "passport.header"),
        ({"jwk": {"kty": "RSA"}}, "passport.header"),
        ({"x5c": ["MIIE"]}, "passport.header"),
        ({"x5u": "https://attacker.example"}, "passport.header"),
        ({"alg": "none"}, "passport.algorithm"),
        ({"alg": "HS256"}, "passport.algorithm"),
        ({"alg": "PS384"}, "passport.algorithm"),
        ({"alg": "ES256"}, "passport.algorithm"),
        ({"alg": None}, "passport.algorithm"),
        ({"jku": "https://attacker.example"}, ""),
        ({"typ": None}, ""),
    ],
)
def test_header_chooses_among_registered_keys_only(header: dict[str, Any], reason: str) -> None:
    token = AZURE_SIGNER.sign(claims(), **header)
    if reason:
        assert refused(token) == reason
    else:
        assert verify_signature(token, BOTH)


def test_another_key_under_the_registered_name_is_refused() -> None:
    assert refused(STRANGER.sign(claims())) == "passport.signature"


def test_token_without_a_signature_is_refused() -> None:
    head, body, _ = AZURE_SIGNER.sign(claims()).split(".")
    assert refused(f"{head}.{body}.") == "passport.signature"


def test_public_key_is_no_shared_secret() -> None:
    """The header says HS256, and the key is one that everybody knows."""
    public = AZURE_SIGNER.key.public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "kid": AZURE_SIGNER.kid}
    signed = ".".join(encode_base64url(json.dumps(one).encode()) for one in (header, claims()))
    mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    assert refused(f"{signed}.{encode_base64url(mac)}") == "passport.algorithm"


def test_key_is_used_for_its_own_algorithm_only() -> None:
    """Intel's set says PS384, whatever else the owner would take from Intel."""
    issuer = intel_issuer()
    both = replace(issuer.terms, algorithms=frozenset(Algorithm))
    token = INTEL_SIGNER.sign(KINDS["intel v1 tdx"].claims(), algorithm="RS256")
    assert refused(token, (replace(issuer, terms=both),)) == "passport.algorithm"
    unsaid = tuple(replace(key, algorithm=None) for key in issuer.keys)
    assert verify_signature(token, (replace(issuer, terms=both, keys=unsaid),))


def test_changed_claims_are_refused() -> None:
    head, _, signature = AZURE_SIGNER.sign(claims()).split(".")
    changed = claims() | {"x-ms-sevsnpvm-vmpl": 0, "exp": 4_000_000_000}
    body = encode_base64url(json.dumps(changed).encode())
    assert refused(f"{head}.{body}.{signature}") == "passport.signature"


@pytest.mark.parametrize(
    ("iss", "reason"),
    [
        ("https://shop.eus.attest.azure.example/", "passport.issuer"),
        ("https://attacker.example", "passport.issuer"),
        (None, "passport.issuer"),
        ([AZURE], "passport.issuer"),
        ("https://portal.trustauthority.example", "passport.algorithm"),
    ],
)
def test_issuer_is_a_registered_one_with_its_own_keys(iss: object, reason: str) -> None:
    assert refused(AZURE_SIGNER.sign(claims() | {"iss": iss})) == reason


def test_without_registrations_nobody_is_an_issuer() -> None:
    assert refused(AZURE_SIGNER.sign(claims()), ()) == "passport.issuer"


def _raw(header: bytes, body: bytes) -> str:
    return f"{encode_base64url(header)}.{encode_base64url(body)}.AAAA"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "passport.form"),
        ("a.b", "passport.form"),
        ("a.b.c.d", "passport.form"),
        ("é.b.c", "passport.form"),
        ("a" * MAX_PASSPORT_BYTES + "..", "passport.form"),
        ("!.e30.AAAA", "passport.form"),
        (_raw(b"{", b"{}"), "passport.header.json"),
        (_raw(b"[]", b"{}"), "passport.header"),
        (_raw(b"{}", b"[]"), "passport.claims"),
        (_raw(b"{}", b'{"iss": 1, "iss": 2}'), "passport.claims.duplicate"),
        (_raw(b"{}", b'{"iss": 1.5}'), "passport.claims.number"),
        (_raw(b"{}", b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}"), "passport.claims.depth"),
        (base64.b64encode(b"{}").decode() + ".e30.AAAA", "passport.form"),
    ],
)
def test_what_is_no_strict_jws_is_refused(token: str, reason: str) -> None:
    assert refused(token) == reason


@pytest.mark.parametrize("token", ["", "a", "a.!.c", "a.e30.c", _raw(b"{}", b'{"iss": 1}')])
def test_token_that_names_no_issuer_names_none(token: str) -> None:
    assert name_issuer(token) is None
