"""Private keys given to a command in PEM: of the kind that it needs, without a passphrase."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ccinit.errors import ConfigError


def ed25519_key(pem: bytes, path: Path, reason: str) -> Ed25519PrivateKey:
    """Return the Ed25519 key in the content of the file `path`.

    Raises:
        ConfigError: with `reason`, it is no such key.
    """
    key = _private_key(pem, path, reason)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(reason, f"{path}: expected an Ed25519 key")
    return key


def elliptic_curve_key(pem: bytes, path: Path, reason: str) -> EllipticCurvePrivateKey:
    """Return the elliptic-curve key, on any curve, in the content of the file `path`.

    Raises:
        ConfigError: with `reason`, it is no such key.
    """
    key = _private_key(pem, path, reason)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ConfigError(reason, f"{path}: expected an elliptic-curve key")
    return key


def _private_key(pem: bytes, path: Path, reason: str) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = (
            "the key has a passphrase: remove it"
            if b"ENCRYPTED" in pem
            else "no private key in PEM"
        )
        raise ConfigError(reason, f"{path}: {why}") from error
