"""Invariant: any text given as a token, signed by its issuer or not, is a passport about a
registered image and pod or a `CcinitError`; any bytes given as a key set or as an issuer's file are
one or a `CcinitError`. Nothing else is ever raised.

Run as `python -m tests.fuzz.fuzz_passports [SECONDS [SEED]]`.
"""

import json

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import encode_base64url
from guest_owner.kbs.passports.issuer import parse_issuer
from guest_owner.kbs.passports.judge import judge_passport
from guest_owner.kbs.passports.key_set import encode_key_set, parse_key_set
from guest_owner.kbs.passports.signature import name_issuer, verify_signature
from tests.fuzz.mutation import check_mutated
from tests.fuzz.trials import Trials, run
from tests.unit.guest_owner.kbs.passports.passport_values import (
    AZURE_SIGNER,
    AZURE_TOML,
    KINDS,
    NOW,
    SNP_TABLE,
    TDX_TABLE,
    azure_issuer,
    intel_issuer,
    passport_references,
)

ISSUERS = (azure_issuer(), intel_issuer())
TRUSTED = passport_references()
HEADER = {"alg": "RS256", "kid": AZURE_SIGNER.kid, "typ": "JWT"}
HEADER_TEXT = encode_base64url(json.dumps(HEADER).encode())
TOKENS = tuple(kind.token().encode() for kind in KINDS.values())
CLAIMS = tuple(json.dumps(KINDS[name].claims()).encode() for name in ("azure snp", "azure tdx"))
FILES = (
    (AZURE_TOML + SNP_TABLE + TDX_TABLE).encode(),
    AZURE_SIGNER.key_set(),
    AZURE_SIGNER.key_set(in_certificate=True),
)
SEEDS = (*TOKENS, *CLAIMS, *FILES)
NOISE = (b"null", b"true", b'"', b".", b"[", b"{}", b"-1", b"1e9", b"\xff", b"\x00", b"00")


def check(data: bytes) -> None:
    """Check the invariant, of the bytes as a token, as claims and as files."""
    text = data.decode("utf-8", errors="replace")
    name_issuer(text)
    _judge(text)
    signed = f"{HEADER_TEXT}.{encode_base64url(data)}"
    signature = AZURE_SIGNER.key.sign(signed.encode(), PKCS1v15(), SHA256())
    _judge(f"{signed}.{encode_base64url(signature)}")
    _read_files(data)


def _judge(token: str) -> None:
    try:
        passport = judge_passport(verify_signature(token, ISSUERS), TRUSTED, now=NOW)
    except CcinitError:
        return
    assert passport.evidence.reference.name == "image-1"
    assert passport.evidence.initdata in TRUSTED.initdata
    assert all(claim.holds for claim in passport.evidence.claims)


def _read_files(data: bytes) -> None:
    try:
        keys = parse_key_set(data)
    except CcinitError:
        pass
    else:
        kept = encode_key_set(keys)
        assert encode_key_set(parse_key_set(kept)) == kept
    try:
        assert parse_issuer(data).platforms
    except CcinitError:
        return


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    for token in TOKENS:
        assert judge_passport(verify_signature(token.decode(), ISSUERS), TRUSTED, now=NOW)
    return check_mutated(check, SEEDS, NOISE, Trials(seconds, seed))


if __name__ == "__main__":
    run(main)
