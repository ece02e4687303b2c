"""Replies encrypted to the guest's session key: JWE with A256GCM.

The algorithm follows the key: ECDH-ES+A256KW on P-256 or P-521, RSA-OAEP-256 with RSA. RFC 7516
(flattened JSON), RFC 7518 sections 4.3 (OAEP), 4.6 (ECDH-ES), 5.3 (A256GCM), RFC 3394 (key wrap).
This is the encrypting half; the guest's half is `ccinit.attest.jwe`. The caller decides which
resource may be encrypted to which key.
"""

import json
import os

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from ccinit.formats.encoding.strict_json import encode_base64url
from ccinit.formats.kbs.concat_kdf import concat_kdf
from ccinit.formats.kbs.jwe_message import CONTENT_ALGORITHM, IV_BYTES, TAG_BYTES
from ccinit.formats.kbs.jwk import (
    ECDH_ALGORITHM,
    P256,
    P521,
    RSA_ALGORITHM,
    RSA_EXPONENT,
    EcPublicJwk,
    PublicJwk,
    RsaPublicJwk,
)

_KEY_BYTES = 32
_CURVES = {P256: ec.SECP256R1(), P521: ec.SECP521R1()}


def encrypt_to_guest(plaintext: bytes, recipient: PublicJwk) -> bytes:
    """Return the JSON reply that only the holder of `recipient`'s private key can open."""
    content_key = os.urandom(_KEY_BYTES)
    header, encrypted_key = _encrypt_key(content_key, recipient)
    # The stock client rebuilds this text from the parsed header, with the members in this order.
    protected = encode_base64url(json.dumps(header, separators=(",", ":")).encode("ascii"))
    iv = os.urandom(IV_BYTES)
    sealed = AESGCM(content_key).encrypt(iv, plaintext, protected.encode("ascii"))
    reply = {
        "protected": protected,
        "encrypted_key": encode_base64url(encrypted_key),
        "iv": encode_base64url(iv),
        "ciphertext": encode_base64url(sealed[:-TAG_BYTES]),
        "tag": encode_base64url(sealed[-TAG_BYTES:]),
    }
    return json.dumps(reply, separators=(",", ":")).encode("ascii")


def _encrypt_key(content_key: bytes, recipient: PublicJwk) -> tuple[dict[str, object], bytes]:
    """Return the header that names the algorithm, and the content key encrypted by it."""
    if isinstance(recipient, RsaPublicJwk):
        modulus = int.from_bytes(recipient.modulus, "big")
        padding = OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=None)
        key = rsa.RSAPublicNumbers(RSA_EXPONENT, modulus).public_key()
        return {"alg": RSA_ALGORITHM, "enc": CONTENT_ALGORITHM}, key.encrypt(content_key, padding)
    curve = _CURVES[recipient.curve]
    public = ec.EllipticCurvePublicNumbers(
        int.from_bytes(recipient.x, "big"), int.from_bytes(recipient.y, "big"), curve
    ).public_key()
    ephemeral = ec.generate_private_key(curve)
    epk = public_jwk(ephemeral.public_key()).to_epk_object()
    shared = ephemeral.exchange(ec.ECDH(), public)
    wrapping_key = concat_kdf(shared, ECDH_ALGORITHM, _KEY_BYTES)
    header: dict[str, object] = {"alg": ECDH_ALGORITHM, "enc": CONTENT_ALGORITHM, "epk": epk}
    return header, aes_key_wrap(wrapping_key, content_key)


def public_jwk(key: ec.EllipticCurvePublicKey) -> EcPublicJwk:
    """Return the key, on P-256 or P-521, as a JWK."""
    numbers = key.public_numbers()
    curve = next(ours for ours, its in _CURVES.items() if its.name == key.curve.name)
    return EcPublicJwk(
        x=numbers.x.to_bytes(curve.coordinate_bytes, "big"),
        y=numbers.y.to_bytes(curve.coordinate_bytes, "big"),
        curve=curve,
    )
