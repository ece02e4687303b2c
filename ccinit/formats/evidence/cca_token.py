"""The attestation token of an Arm CCA realm, as far as a realm reads it.

Realm Management Monitor specification 1.0 (DEN0137), section A7.2: tag 399 around a map of the
platform's token (44234) and the realm's (44241), each a COSE_Sign1 (RFC 9052) in a byte string. The
realm's claims have the challenge (10) and the personalization value (44235), which the host set
when it made the realm. The token comes from the monitor, by a call that the host does not see; its
signatures and all other claims are left to the verifier.
"""

from collections.abc import Mapping

from ccinit.errors import FormatError
from ccinit.formats.encoding.cbor import CborValue, Tagged, parse_cbor
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.values import frozen

MAX_TOKEN_BYTES = 16 * 1024
CHALLENGE_BYTES = 64
PERSONALIZATION_BYTES = 64

_COLLECTION, _COSE_SIGN1 = 399, 18
_PLATFORM, _REALM = 44234, 44241
_CHALLENGE, _PERSONALIZATION = 10, 44235


@frozen
class RealmClaims:
    """What a realm learns of itself; 64 bytes each."""

    challenge: bytes
    personalization: bytes


def parse_cca_token(data: bytes) -> RealmClaims:
    """Read the realm's claims of a token.

    Raises:
        FormatError: `cca_token.…`.
        LimitExceededError: `cca_token.size`, `cca_token.depth`, `cca_token.items`.
    """
    collection = _map(_untag(_parse(data), _COLLECTION, "cca_token.collection"))
    if set(collection) != {_PLATFORM, _REALM}:
        raise FormatError("cca_token.collection", "expected a platform's token and a realm's")
    envelope = _untag(_parse(collection[_REALM]), _COSE_SIGN1, "cca_token.envelope")
    if not isinstance(envelope, list) or len(envelope) != 4:
        raise FormatError("cca_token.envelope", "a COSE_Sign1 has four parts")
    claims = _map(_parse(envelope[2]))
    return RealmClaims(
        challenge=_bytes(claims, _CHALLENGE, CHALLENGE_BYTES),
        personalization=_bytes(claims, _PERSONALIZATION, PERSONALIZATION_BYTES),
    )


def encode_cca_evidence(token: bytes) -> dict[str, JsonValue]:
    """Return `cca` evidence as Trustee's verifier reads it: `{"token": [byte, …]}`."""
    return {"token": list(token)}


def _parse(data: CborValue) -> CborValue:
    if not isinstance(data, bytes):
        raise FormatError("cca_token.nested", "expected a byte string")
    return parse_cbor(data, "cca_token", MAX_TOKEN_BYTES)


def _untag(value: CborValue, tag: int, reason: str) -> CborValue:
    if not isinstance(value, Tagged) or value.tag != tag:
        raise FormatError(reason, f"expected tag {tag}")
    return value.value


def _map(value: CborValue) -> Mapping[int | str, CborValue]:
    if not isinstance(value, Mapping):
        raise FormatError("cca_token.claims", "expected a map")
    return value


def _bytes(claims: Mapping[int | str, CborValue], key: int, size_bytes: int) -> bytes:
    value = claims.get(key)
    if not isinstance(value, bytes) or len(value) != size_bytes:
        raise FormatError("cca_token.claims", f"claim {key}: expected {size_bytes} bytes")
    return value
