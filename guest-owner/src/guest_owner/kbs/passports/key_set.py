"""The keys by which an issuer signs, from a JWK Set (RFC 7517) that the owner has fetched.

RSA keys only, as numbers (`n`, `e`) or in a certificate (`x5c`), which is how each of the services
publishes them. A certificate's dates and chain are not checked: the owner vouches for the set.
Whatever else is in a set is ignored, as the RFC says; only the keys are stored.
"""

import base64
import binascii
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import (
    JsonValue,
    decode_base64url,
    encode_base64url,
    parse_json,
)

MAX_KEY_SET_BYTES = 512 * 1024
MAX_KID_BYTES = 256
_MAX_KEYS = 64
_MIN_BITS, _MAX_BITS = 2048, 8192


class Algorithm(StrEnum):
    """Signatures that a token may have (RFC 7518 sections 3.3 and 3.5)."""

    RS256 = "RS256"
    PS384 = "PS384"


_MALFORMED = (
    binascii.Error,
    ValueError,
    x509.InvalidVersion,
    UnsupportedAlgorithm,
    UserWarning,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerKey:
    """One key; `algorithm` is None if the set does not say which one the key is for."""

    kid: str
    public_key: RSAPublicKey
    algorithm: Algorithm | None


def parse_key_set(data: bytes) -> tuple[IssuerKey, ...]:
    """Read a JWK Set.

    Raises:
        FormatError: with a reason below `issuer.keys`.
    """
    value = parse_json(data, "issuer.keys", MAX_KEY_SET_BYTES)
    listed = value.get("keys") if isinstance(value, Mapping) else None
    if not isinstance(listed, list) or not 0 < len(listed) <= _MAX_KEYS:
        raise FormatError("issuer.keys", f"expected 1 to {_MAX_KEYS} keys")
    keys = tuple(map(_parse_key, listed))
    if len({key.kid for key in keys}) != len(keys):
        raise FormatError("issuer.keys.kid", "two keys have one name")
    return keys


def encode_key_set(keys: tuple[IssuerKey, ...]) -> bytes:
    """Encode keys in a form that `parse_key_set` reads."""
    return json.dumps({"keys": list(map(_encode_key, keys))}, indent=2).encode() + b"\n"


def _parse_key(value: JsonValue) -> IssuerKey:
    if not isinstance(value, Mapping):
        raise FormatError("issuer.keys.type", "a key is not an object")
    kid, algorithm = value.get("kid"), value.get("alg")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_BYTES:
        raise FormatError("issuer.keys.kid", "every key needs a name")
    if value.get("kty") != "RSA" or value.get("use", "sig") != "sig":
        raise FormatError("issuer.keys.kty", f"{kid[:40]!r} is not an RSA key for signatures")
    if algorithm is not None and algorithm not in tuple(Algorithm):  # it may be a list
        raise FormatError("issuer.keys.alg", f"{kid[:40]!r} is for another algorithm")
    public_key = _parse_numbers(value) if "n" in value else _parse_certificate(value)
    if not _MIN_BITS <= public_key.key_size <= _MAX_BITS:
        raise FormatError("issuer.keys.size", f"{kid[:40]!r} has {public_key.key_size} bits")
    known = None if algorithm is None else Algorithm(str(algorithm))
    return IssuerKey(kid=kid, public_key=public_key, algorithm=known)


def _parse_numbers(value: Mapping[str, JsonValue]) -> RSAPublicKey:
    modulus, exponent = (
        int.from_bytes(decode_base64url(value.get(name), f"issuer.keys.{name}"), "big")
        for name in ("n", "e")
    )
    try:
        return RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise FormatError("issuer.keys.n", "not the numbers of an RSA key") from error


def _parse_certificate(value: Mapping[str, JsonValue]) -> RSAPublicKey:
    chain = value.get("x5c")
    if not isinstance(chain, list) or not chain or not isinstance(chain[0], str):
        raise FormatError("issuer.keys.x5c", "a key has neither numbers nor a certificate")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what the library only warns of is malformed
            certificate = x509.load_der_x509_certificate(base64.b64decode(chain[0], validate=True))
            public_key = certificate.public_key()
    except _MALFORMED as error:
        raise FormatError("issuer.keys.x5c", "no certificate in base64 of a known key") from error
    if not isinstance(public_key, RSAPublicKey):
        raise FormatError("issuer.keys.x5c", "the certificate's key is not an RSA key")
    return public_key


def _encode_key(key: IssuerKey) -> dict[str, str]:
    numbers = key.public_key.public_numbers()
    value = {
        "kty": "RSA",
        "kid": key.kid,
        "n": _encode_number(numbers.n),
        "e": _encode_number(numbers.e),
    }
    return value if key.algorithm is None else {**value, "alg": key.algorithm.value}


def _encode_number(number: int) -> str:
    return encode_base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))
