"""The guest's ephemeral public key as a JSON Web Key: EC on P-256, for ECDH-ES+A256KW.

Covers the two shapes in which such a key travels: the `tee-pubkey` of RCAR (RFC 7517 section 4,
RFC 7518 section 6.2.1) and the `epk` header of a JWE (RFC 7518 section 4.6.1.1), which has no
`alg`. A parsed key is a point on the curve: that is checked here, with integers, so that no caller
can hand an off-curve point to a cipher. Private keys and key agreement are left to
`ccinit.attest.tee_key` and `ccinit.attest.jwe`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from ccinit.errors import FormatError
from ccinit.formats.strict_json import JsonValue, decode_base64url, encode_base64url

KEY_ALGORITHM = "ECDH-ES+A256KW"
CURVE = "P-256"
COORDINATE_BYTES = 32

# FIPS 186-4 D.1.2.3: y^2 = x^3 - 3x + b over the prime field.
_PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


@dataclass(frozen=True, slots=True, kw_only=True)
class EcPublicJwk:
    """A point on P-256; `x` and `y` are 32 big-endian bytes each."""

    x: bytes
    y: bytes

    def __post_init__(self) -> None:
        if len(self.x) != COORDINATE_BYTES or len(self.y) != COORDINATE_BYTES:
            raise FormatError("jwk.coordinate", "a P-256 coordinate is 32 bytes")
        x, y = int.from_bytes(self.x, "big"), int.from_bytes(self.y, "big")
        if x >= _PRIME or y >= _PRIME or (y * y - (x * x * x - 3 * x + _B)) % _PRIME:
            raise FormatError("jwk.point", "the point is not on P-256")

    def to_json_object(self) -> dict[str, str]:
        """Return the key as RCAR's `tee-pubkey`."""
        return {"alg": KEY_ALGORITHM, **self.to_epk_object()}

    def to_epk_object(self) -> dict[str, str]:
        """Return the key as the `epk` header of a JWE."""
        return {
            "crv": CURVE,
            "kty": "EC",
            "x": encode_base64url(self.x),
            "y": encode_base64url(self.y),
        }

    def thumbprint(self) -> bytes:
        """Return the key's RFC 7638 thumbprint: SHA-256 of its required members, 32 bytes."""
        text = json.dumps(self.to_epk_object(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).digest()


def parse_jwk(value: JsonValue) -> EcPublicJwk:
    """Read a `tee-pubkey` object; any other member, algorithm or curve is refused."""
    return _parse(value, alg=KEY_ALGORITHM)


def parse_epk(value: JsonValue) -> EcPublicJwk:
    """Read the `epk` header of a JWE; it has no `alg` member."""
    return _parse(value, alg=None)


def _parse(value: JsonValue, *, alg: str | None) -> EcPublicJwk:
    if not isinstance(value, Mapping):
        raise FormatError("jwk.type", "the key is not an object")
    expected = {"kty": "EC", "crv": CURVE}
    if alg is not None:
        expected["alg"] = alg
    for member, text in expected.items():
        if value.get(member) != text:
            raise FormatError(f"jwk.{member}", f"expected {text}")
    if set(value) != {*expected, "x", "y"}:
        raise FormatError("jwk.members", "missing or unknown members")
    return EcPublicJwk(
        x=decode_base64url(value["x"], "jwk.x"), y=decode_base64url(value["y"], "jwk.y")
    )
