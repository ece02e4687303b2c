"""Administrators' tokens: each step refused by name, and tokens as Trustee's client makes them."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import decode_base64url, encode_base64url, parse_json
from guest_owner.kbs.administration.token import (
    AdminKey,
    parse_admin_key,
    sign_admin_token,
    verify_admin_token,
)

NOW = 1_790_000_000
DAY, MINUTE = 24 * 3600, 60
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
KEYS = (AdminKey("second", OTHER.public_key()), AdminKey("first", KEY.public_key()))
HEADER = {"alg": "EdDSA", "typ": "JWT"}
CLAIMS = {"iat": NOW - 5, "exp": NOW + 7200, "nbf": NOW - 5, "role": "admin"}


def encode(value: object) -> str:
    return encode_base64url(json.dumps(value).encode())


def token(header: object = HEADER, claims: object = CLAIMS, key: Ed25519PrivateKey = KEY) -> str:
    signed = f"{encode(header)}.{encode(claims)}"
    return f"{signed}.{encode_base64url(key.sign(signed.encode()))}"


def reason_of(text: str, keys: tuple[AdminKey, ...] = KEYS, now: float = NOW) -> str:
    with pytest.raises(CcinitError) as refused:
        verify_admin_token(text, keys, now=now)
    return refused.value.reason


def test_token_names_the_key_that_signed_it() -> None:
    assert verify_admin_token(token(), KEYS, now=NOW) == "first"
    assert verify_admin_token(token(key=OTHER), KEYS, now=NOW) == "second"
    ours = sign_admin_token(KEY, now=NOW, life_seconds=600)
    assert verify_admin_token(ours, KEYS, now=NOW) == "first"
    assert verify_admin_token(ours, KEYS, now=NOW + 599) == "first"
    assert reason_of(ours, now=NOW + 600) == "admin.time"


def test_token_lives_a_day_and_its_signer_may_be_a_minute_ahead() -> None:
    ours = sign_admin_token(KEY, now=NOW + MINUTE, life_seconds=DAY)
    assert verify_admin_token(ours, KEYS, now=NOW) == "first"
    header, claims, _ = ours.split(".")
    assert parse_json(decode_base64url(header, "header"), "header", len(header)) == HEADER
    end = NOW + MINUTE + DAY
    assert parse_json(decode_base64url(claims, "claims"), "claims", len(claims)) == {
        "iat": NOW + MINUTE,
        "nbf": NOW + MINUTE,
        "exp": end,
        "role": "admin",
    }
    assert verify_admin_token(ours, KEYS, now=end - 1) == "first"


def test_other_claims_and_a_missing_nbf_do_not_matter() -> None:
    claims = {"iat": NOW, "exp": NOW + 60, "role": "admin", "iss": "x", "aud": ["kbs"], "jti": "1"}
    assert verify_admin_token(token(claims=claims), KEYS, now=NOW) == "first"
    assert verify_admin_token(token({**HEADER, "kid": "x"}), KEYS, now=NOW) == "first"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "admin.form"),
        ("a.b", "admin.form"),
        ("é.b.c", "admin.form"),
        (token() + "A" * 5000, "admin.form"),
        (token() + "=", "admin.form"),
        (token()[:-4] + "AAAA", "admin.signature"),
        (token(key=Ed25519PrivateKey.generate()), "admin.signature"),
        (f"{encode(HEADER)}.{encode(CLAIMS)}.", "admin.signature"),
        (token({"alg": "none"}), "admin.header"),
        (token({"alg": "HS256", "typ": "JWT"}), "admin.header"),
        (token({**HEADER, "crit": ["exp"]}), "admin.header"),
        (token({**HEADER, "jwk": {}}), "admin.header"),
        (token([]), "admin.header"),
        (token(claims=[]), "admin.claims"),
        (token(claims={**CLAIMS, "exp": 1.5}), "admin.claims"),
        (token(claims={**CLAIMS, "exp": NOW}), "admin.time"),
        (token(claims={**CLAIMS, "iat": NOW + MINUTE + 1}), "admin.time"),
        (token(claims={**CLAIMS, "nbf": NOW + MINUTE + 1}), "admin.time"),
        (token(claims={**CLAIMS, "nbf": None}), "admin.time"),
        (token(claims={**CLAIMS, "nbf": True}), "admin.time"),
        (token(claims={**CLAIMS, "iat": True}), "admin.time"),
        (token(claims={**CLAIMS, "exp": str(NOW + 60)}), "admin.time"),
        (token(claims={"exp": NOW + 60, "role": "admin"}), "admin.time"),
        (token(claims={"iat": NOW, "role": "admin"}), "admin.time"),
        (token(claims={**CLAIMS, "exp": NOW + DAY + 1}), "admin.time"),
        (token(claims={**CLAIMS, "role": "reader"}), "admin.role"),
        (token(claims={**CLAIMS, "role": ["admin"]}), "admin.role"),
        (token(claims={name: CLAIMS[name] for name in ("iat", "exp")}), "admin.role"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_by_its_step(text: str, reason: str) -> None:
    assert reason_of(text) == reason


def test_without_a_registered_key_administration_is_closed() -> None:
    assert reason_of(token(), ()) == "admin.closed"


@pytest.mark.parametrize("seconds", [0, -1, DAY + 1])
def test_token_with_an_odd_life_is_not_made(seconds: int) -> None:
    with pytest.raises(CcinitError) as refused:
        sign_admin_token(KEY, now=NOW, life_seconds=seconds)
    assert refused.value.reason == "admin.time"


def test_only_ed25519_keys_can_be_registered() -> None:
    form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert parse_admin_key("a", KEY.public_key().public_bytes(*form)).name == "a"
    other = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*form)
    for pem in (other, b"-----BEGIN", b""):
        with pytest.raises(CcinitError) as refused:
            parse_admin_key("a", pem)
        assert refused.value.reason == "admin.key"
