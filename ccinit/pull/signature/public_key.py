"""Public keys of a policy, and verifying signatures by them.

ECDSA on P-256 and P-384, Ed25519, and RSA of at least 2048 bits with PKCS #1 v1.5, as cosign and
containers/image make them. ECDSA and RSA sign SHA-256; for P-384, SHA-384 is accepted, too, since
newer signers choose the hash by the curve. `sigstore` decides which key has to sign what.
"""

from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    SECP384R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from ccinit.errors import FormatError, VerificationError

PublicKey: TypeAlias = EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey

MAX_SIGNATURE_BYTES = 2048
_MIN_RSA_BITS = 2048
_MAX_RSA_BITS = 8192


def load_public_key(pem: bytes, reason: str) -> PublicKey:
    """Load one PEM public key of a kind that may sign.

    Raises:
        FormatError: with `reason`.
    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FormatError(reason, "not a PEM public key") from error
    return check_public_key(key, reason)


def check_public_key(key: object, reason: str) -> PublicKey:
    """Return `key` if it is of a kind that may sign.

    Raises:
        FormatError: with `reason`.
    """
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, (SECP256R1, SECP384R1)):
        return key
    if isinstance(key, RSAPublicKey) and _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
        return key
    if isinstance(key, Ed25519PublicKey):
        return key
    raise FormatError(reason, "expected ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 bits")


def encode_public_key(key: PublicKey) -> bytes:
    """Return the key as SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def verify_signature(key: PublicKey, signature: bytes, message: bytes) -> bytes:
    """Return `message` if `signature` over it is by `key`.

    Raises:
        VerificationError: `signature.key`.
    """
    if len(signature) <= MAX_SIGNATURE_BYTES:
        for algorithm in _hashes(key):
            if _holds(key, signature, message, algorithm):
                return message
    raise VerificationError("signature.key", "not a signature by a key of the policy")


def _hashes(key: PublicKey) -> tuple[HashAlgorithm, ...]:
    is_p384 = isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP384R1)
    return (SHA256(), SHA384()) if is_p384 else (SHA256(),)


def _holds(key: PublicKey, signature: bytes, message: bytes, algorithm: HashAlgorithm) -> bool:
    try:
        match key:
            case EllipticCurvePublicKey():
                key.verify(signature, message, ECDSA(algorithm))
            case RSAPublicKey():
                key.verify(signature, message, PKCS1v15(), algorithm)
            case Ed25519PublicKey():
                key.verify(signature, message)
    except InvalidSignature:
        return False
    return True
