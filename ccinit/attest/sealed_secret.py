"""The signature on a sealed secret (`ccinit.formats.kbs.sealed_secret`)."""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64url, parse_json
from ccinit.formats.kbs.jwk import EcPublicJwk
from ccinit.formats.kbs.sealed_secret import SealedSecret

_WHERE: Final = "sealed_secret.key"
_MAX_KEY_BYTES: Final = 2048
_HALF: Final = 32
_NEEDED: Final = frozenset(("kty", "crv", "x", "y"))
_ALLOWED: Final = _NEEDED | {"alg", "kid", "use", "key_ops"}


def verify_sealed_secret(sealed: SealedSecret, key: bytes) -> None:
    """Verify that `key`, a JWK (RFC 7517), has signed it.

    Raises:
        FormatError: `sealed_secret.key`, not a public key on P-256 for ES256.
        VerificationError: `sealed_secret.signature`.
    """
    r, s = sealed.signature[:_HALF], sealed.signature[_HALF:]
    signature = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    try:
        _load(key).verify(signature, sealed.signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise VerificationError(
            "sealed_secret.signature", f"{sealed.resource} is not named by {sealed.key}"
        ) from error


def _verifies(operations: JsonValue) -> bool:
    return isinstance(operations, list) and "verify" in operations


def _load(key: bytes) -> ec.EllipticCurvePublicKey:
    value = parse_json(key, _WHERE, _MAX_KEY_BYTES)
    if not isinstance(value, dict) or not _NEEDED <= value.keys() <= _ALLOWED:
        raise FormatError(_WHERE, "missing or unknown members; a private key has no place here")
    if (value["kty"], value["crv"], value.get("alg", "ES256")) != ("EC", "P-256", "ES256"):
        raise FormatError(_WHERE, "expected a key on P-256 for ES256")
    if value.get("use", "sig") != "sig" or not _verifies(value.get("key_ops", ["verify"])):
        raise FormatError(_WHERE, "its use or key_ops say that it verifies no signatures")
    # checks that the point is on its curve
    point = EcPublicJwk(
        x=decode_base64url(value["x"], _WHERE), y=decode_base64url(value["y"], _WHERE)
    )
    x, y = int.from_bytes(point.x, "big"), int.from_bytes(point.y, "big")
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
