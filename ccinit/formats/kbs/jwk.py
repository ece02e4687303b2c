"""The guest's ephemeral public key as a JSON Web Key: EC on P-256 or P-521, or RSA.

Covers the two shapes in which such a key travels: the `tee-pubkey` of RCAR (RFC 7517 section 4,
RFC 7518 sections 6.2.1 and 6.3.1) and, on a curve, the `epk` header of a JWE (RFC 7518 section
4.6.1.1), which has no `alg`. A parsed point is on its curve: that is checked here, with integers,
so that no caller can hand an off-curve point to a cipher. The measured configuration says which
kind a session uses; private keys and key agreement are left to `ccinit.attest.tee_key` and
`ccinit.attest.jwe`.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

from ccinit.errors import FormatError
from ccinit.formats.encoding.json_text import encode_json
from ccinit.formats.encoding.strict_json import (
    JsonValue,
    decode_base64url,
    encode_base64url,
    members,
)
from ccinit.values import frozen

ECDH_ALGORITHM: Final = "ECDH-ES+A256KW"
RSA_ALGORITHM: Final = "RSA-OAEP-256"
RSA_EXPONENT: Final = 65537
MIN_MODULUS_BITS, MAX_MODULUS_BITS = 2048, 4096

_EXPONENT_TEXT = "AQAB"


class TeeKeyAlgorithm(StrEnum):
    """Kinds of keys that a guest can offer, by Trustee's names for them."""

    P256 = "ECDH-ES+A256KW-P256"
    P521 = "ECDH-ES+A256KW-P521"
    RSA_OAEP_256 = "RSA-OAEP-256"


@frozen
class Curve:
    """A curve y^2 = x^3 - 3x + b over the field of `prime`, of cofactor 1."""

    name: str
    prime: int
    b: int

    @property
    def coordinate_bytes(self) -> int:
        """Length of a coordinate, leading zeros included."""
        return (self.prime.bit_length() + 7) // 8


# FIPS 186-4 D.1.2.3 and D.1.2.5.
P256: Final = Curve(
    name="P-256",
    prime=2**256 - 2**224 + 2**192 + 2**96 - 1,
    b=0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
)
P521: Final = Curve(
    name="P-521",
    prime=2**521 - 1,
    b=int(
        "0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E1"
        "56193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00",
        16,
    ),
)
_CURVES: Final = {curve.name: curve for curve in (P256, P521)}


@frozen
class EcPublicJwk:
    """A point on a curve; `x` and `y` are big-endian, each as long as the curve's field."""

    x: bytes
    y: bytes
    curve: Curve = P256

    def __post_init__(self) -> None:
        size, prime = self.curve.coordinate_bytes, self.curve.prime
        if len(self.x) != size or len(self.y) != size:
            raise FormatError("jwk.coordinate", f"a {self.curve.name} coordinate is {size} bytes")
        x, y = int.from_bytes(self.x, "big"), int.from_bytes(self.y, "big")
        if x >= prime or y >= prime or (y * y - (x * x * x - 3 * x + self.curve.b)) % prime:
            raise FormatError("jwk.point", f"the point is not on {self.curve.name}")

    @property
    def algorithm(self) -> str:
        """The `alg` of a JWE to this key."""
        return ECDH_ALGORITHM

    def to_json_object(self) -> dict[str, str]:
        """Return the key as RCAR's `tee-pubkey`."""
        return {"alg": ECDH_ALGORITHM, **self.to_epk_object()}

    def to_epk_object(self) -> dict[str, str]:
        """Return the key as the `epk` header of a JWE."""
        return {
            "crv": self.curve.name,
            "kty": "EC",
            "x": encode_base64url(self.x),
            "y": encode_base64url(self.y),
        }

    def thumbprint(self) -> bytes:
        """Return the key's RFC 7638 thumbprint: SHA-256 of its required members, 32 bytes."""
        return _thumbprint(self.to_epk_object())


@frozen
class RsaPublicJwk:
    """An RSA key with the exponent 65537; `modulus` is big-endian without leading zeros."""

    modulus: bytes

    def __post_init__(self) -> None:
        bits = int.from_bytes(self.modulus, "big").bit_length()
        if not MIN_MODULUS_BITS <= bits <= MAX_MODULUS_BITS or not self.modulus[0]:
            raise FormatError(
                "jwk.modulus", f"expected {MIN_MODULUS_BITS} to {MAX_MODULUS_BITS} bits"
            )
        if not self.modulus[-1] % 2:
            raise FormatError("jwk.modulus", "a product of odd primes is odd")

    @property
    def algorithm(self) -> str:
        """The `alg` of a JWE to this key."""
        return RSA_ALGORITHM

    def to_json_object(self) -> dict[str, str]:
        """Return the key as RCAR's `tee-pubkey`."""
        return {"alg": RSA_ALGORITHM, **self._required()}

    def thumbprint(self) -> bytes:
        """Return the key's RFC 7638 thumbprint, 32 bytes."""
        return _thumbprint(self._required())

    def _required(self) -> dict[str, str]:
        return {"e": _EXPONENT_TEXT, "kty": "RSA", "n": encode_base64url(self.modulus)}


PublicJwk: TypeAlias = EcPublicJwk | RsaPublicJwk


def parse_jwk(value: JsonValue) -> PublicJwk:
    """Read a `tee-pubkey` object; any other member, algorithm or curve is refused.

    Raises:
        FormatError: `jwk.…`.
    """
    if isinstance(value, Mapping) and value.get("kty") == "RSA":
        return _parse_rsa(value)
    return _parse_ec(value, _CURVES, alg=ECDH_ALGORITHM)


def parse_epk(value: JsonValue, curve: Curve) -> EcPublicJwk:
    """Read the `epk` header of a JWE: a point on the recipient's `curve`, without `alg`.

    Raises:
        FormatError: `jwk.…`.
    """
    return _parse_ec(value, {curve.name: curve}, alg=None)


def _parse_ec(value: JsonValue, curves: Mapping[str, Curve], *, alg: str | None) -> EcPublicJwk:
    if not isinstance(value, Mapping):
        raise FormatError("jwk.type", "the key is not an object")
    expected = {"kty": "EC"} if alg is None else {"kty": "EC", "alg": alg}
    _require(value, expected)
    curve = value.get("crv")
    if not isinstance(curve, str) or curve not in curves:
        raise FormatError("jwk.crv", f"expected {' or '.join(curves)}")
    members(value, frozenset((*expected, "crv", "x", "y")), "jwk")
    return EcPublicJwk(
        x=decode_base64url(value["x"], "jwk.x"),
        y=decode_base64url(value["y"], "jwk.y"),
        curve=curves[curve],
    )


def _parse_rsa(value: Mapping[str, JsonValue]) -> RsaPublicJwk:
    _require(value, {"alg": RSA_ALGORITHM, "e": _EXPONENT_TEXT})
    members(value, frozenset(("kty", "alg", "n", "e")), "jwk")
    return RsaPublicJwk(modulus=decode_base64url(value["n"], "jwk.n"))


def _require(value: Mapping[str, JsonValue], expected: Mapping[str, str]) -> None:
    for member, text in expected.items():
        if value.get(member) != text:
            raise FormatError(f"jwk.{member}", f"expected {text}")


def _thumbprint(required: Mapping[str, str]) -> bytes:
    return hashlib.sha256(encode_json(required, sort_keys=True)).digest()
