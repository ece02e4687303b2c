"""Keys of encrypted images: refused here before a guest fails because of them in PULL.

By the guest's rules and with its reason (`ccinit.pull.encryption.unwrap`).
"""

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
)

from ccinit.errors import FormatError
from ccinit.formats.oci.layer_encryption import KEY_BYTES, is_packet_key

_REASON: Final = "enc.key"
_MIN_RSA_BITS: Final = 2048
_BEGIN: Final = b"-----BEGIN"
_ENCRYPTED: Final = b"ENCRYPTED"  # in the label of PKCS #8, in a header of the older form


def check_image_key(data: bytes) -> None:
    """Refuse what opens no layer: neither a key of 32 bytes nor a private key that guests can use.

    Raises:
        FormatError: `enc.key`.
    """
    if is_packet_key(len(data)):
        return
    is_pem = data.lstrip().startswith(_BEGIN)
    try:
        key = (load_pem_private_key if is_pem else load_der_private_key)(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's own text may quote the key.
        raise FormatError(_REASON, _describe(data, is_pem=is_pem)) from None
    if isinstance(key, RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS:
        return
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(
        key.curve, SECP256R1 | SECP384R1 | SECP521R1
    ):
        return
    raise FormatError(_REASON, f"neither RSA of {_MIN_RSA_BITS} bits nor on a NIST curve")


def _describe(data: bytes, *, is_pem: bool) -> str:
    if is_pem and _ENCRYPTED in data:
        return "the key has a passphrase, which no guest knows: remove it"
    return f"expected {KEY_BYTES} bytes or a private key, found {len(data)} bytes that are neither"
