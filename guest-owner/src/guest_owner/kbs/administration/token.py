"""Administrators of the KBS: their Ed25519 keys, and the tokens that they authenticate with.

A token is a JWT (RFC 7519) in a compact JWS (RFC 7515) with EdDSA (RFC 8037), as Trustee's client
tools make and send it. The steps, all of them MUST, with the reason of a failure in brackets:

    1. It is a compact JWS of bounded size [`admin.form`].
    2. Its signature verifies with a registered key [`admin.closed`, `admin.signature`].
    3. Its header says EdDSA and demands nothing else [`admin.header`].
    4. By its claims `iat` and `exp`, which it must have, and `nbf`, it is valid now; its life is at
       most a day [`admin.time`].
    5. Its claim `role` is `admin` [`admin.role`].

Registered keys are tried in turn: nothing in the token chooses one. What an administrator may do is
`guest_owner.kbs.administration.calls`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ccinit.errors import CcinitError, FormatError, VerificationError
from ccinit.formats.encoding.strict_json import (
    JsonValue,
    decode_base64url,
    encode_base64url,
    parse_json,
)

ROLE: Final = "admin"
MAX_TOKEN_BYTES: Final = 4096
MAX_LIFE_SECONDS: Final = 24 * 3600
SKEW_SECONDS: Final = 60

_HEADER_MEMBERS: Final = frozenset(("alg", "typ", "kid"))


@dataclass(frozen=True, slots=True)
class AdminKey:
    """A registered administrator: the name in the audit log, and the public key."""

    name: str
    public_key: Ed25519PublicKey


def parse_admin_key(name: str, pem: bytes) -> AdminKey:
    """Read a registered public key.

    Raises:
        FormatError: `admin.key`.
    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError("admin.key", f"{name} is not a PEM public key of a known kind") from error
    if not isinstance(key, Ed25519PublicKey):
        raise FormatError("admin.key", f"{name} is not an Ed25519 key")
    return AdminKey(name, key)


def sign_admin_token(key: Ed25519PrivateKey, *, now: int, life_seconds: int) -> str:
    """Return a token that is valid from `now`, seconds since 1970, for `life_seconds`.

    Raises:
        FormatError: `admin.time`, no KBS accepts so long or short a life.
    """
    if not 0 < life_seconds <= MAX_LIFE_SECONDS:
        raise FormatError("admin.time", f"a token lives 1 to {MAX_LIFE_SECONDS} seconds")
    header: dict[str, JsonValue] = {"alg": "EdDSA", "typ": "JWT"}
    claims: dict[str, JsonValue] = {"iat": now, "nbf": now, "exp": now + life_seconds, "role": ROLE}
    signed = f"{_encode(header)}.{_encode(claims)}"
    return f"{signed}.{encode_base64url(key.sign(signed.encode('ascii')))}"


def verify_admin_token(token: str, keys: Iterable[AdminKey], *, now: float) -> str:
    """Make steps 1 to 5 and return the name of the key.

    Raises:
        FormatError: `admin.form`, `admin.header` or below `admin.claims`.
        VerificationError: as the steps say.
    """
    # Step 1
    if len(token) > MAX_TOKEN_BYTES or not token.isascii() or token.count(".") != 2:
        raise FormatError("admin.form", "not a compact JWS")
    signed, _, signature = token.rpartition(".")
    # Step 2
    name = _find_signer(signed.encode("ascii"), decode_base64url(signature, "admin.form"), keys)
    header, claims = (
        _read(decode_base64url(part, "admin.form"), where)
        for part, where in zip(signed.split("."), ("admin.header", "admin.claims"), strict=True)
    )
    # Step 3
    if header.get("alg") != "EdDSA" or not _HEADER_MEMBERS.issuperset(header):
        raise FormatError("admin.header", "expected EdDSA, and no other demand")
    # Step 4
    _check_time(claims, now)
    # Step 5
    if claims.get("role") != ROLE:
        raise VerificationError("admin.role", f"the claim role is not {ROLE!r}")
    return name


def _find_signer(signed: bytes, signature: bytes, keys: Iterable[AdminKey]) -> str:
    known = tuple(keys)
    if not known:
        raise VerificationError("admin.closed", "no administrator is registered")
    for key in known:
        try:
            key.public_key.verify(signature, signed)
        except InvalidSignature:
            continue
        return key.name
    raise VerificationError("admin.signature", "no registered key signed this")


def _check_time(claims: Mapping[str, JsonValue], now: float) -> None:
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    begins = _time(claims, "nbf") if "nbf" in claims else issued
    if max(issued, begins) > now + SKEW_SECONDS:
        raise VerificationError("admin.time", "not valid yet")
    if expires <= now:
        raise VerificationError("admin.time", "expired")
    if expires - issued > MAX_LIFE_SECONDS:
        raise VerificationError("admin.time", f"lives longer than {MAX_LIFE_SECONDS} seconds")


def _time(claims: Mapping[str, JsonValue], name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise VerificationError("admin.time", f"expected {name} in seconds")
    return value


def _read(data: bytes, where: str) -> Mapping[str, JsonValue]:
    try:
        value = parse_json(data, where, MAX_TOKEN_BYTES)
    except CcinitError as error:
        raise FormatError(where, "not strict JSON") from error
    if not isinstance(value, Mapping):
        raise FormatError(where, "not an object")
    return value


def _encode(value: Mapping[str, JsonValue]) -> str:
    return encode_base64url(json.dumps(value, separators=(",", ":")).encode("ascii"))
