"""Replies encrypted to the guest's session key: JWE with ECDH-ES+A256KW on P-256 and A256GCM.

RFC 7516 (flattened JSON), RFC 7518 sections 4.6 (ECDH-ES), 5.3 (A256GCM), RFC 3394 (key wrap). The
encrypting half only; the guest's half is `ccinit.attest.jwe`. Which resource may be encrypted to
which key is decided by the caller.
"""

import json
import os

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from ccinit.formats.jwk import COORDINATE_BYTES, KEY_ALGORITHM, EcPublicJwk
from ccinit.formats.strict_json import encode_base64url

_KEY_BYTES = 32
_IV_BYTES = 12
_TAG_BYTES = 16


def concat_kdf(
    shared_secret: bytes,
    algorithm: str,
    key_bytes: int,
    *,
    party_u: bytes = b"",
    party_v: bytes = b"",
) -> bytes:
    """Derive a key of `key_bytes` as RFC 7518 section 4.6.2 fixes it (SHA-256)."""
    fields = (algorithm.encode("ascii"), party_u, party_v)
    other_info = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    other_info += (8 * key_bytes).to_bytes(4, "big")
    return ConcatKDFHash(SHA256(), key_bytes, other_info).derive(shared_secret)


def encrypt_to_guest(plaintext: bytes, recipient: EcPublicJwk) -> bytes:
    """Return the JSON reply that only the holder of `recipient`'s private key can open."""
    public = ec.EllipticCurvePublicNumbers(
        int.from_bytes(recipient.x, "big"), int.from_bytes(recipient.y, "big"), ec.SECP256R1()
    ).public_key()
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    header = {
        "alg": KEY_ALGORITHM,
        "enc": "A256GCM",
        "epk": public_jwk(ephemeral.public_key()).to_epk_object(),
    }
    # The stock client rebuilds this text from the parsed header with its members in this order.
    protected = encode_base64url(json.dumps(header, separators=(",", ":")).encode("ascii"))
    shared = ephemeral.exchange(ec.ECDH(), public)
    content_key = os.urandom(_KEY_BYTES)
    iv = os.urandom(_IV_BYTES)
    sealed = AESGCM(content_key).encrypt(iv, plaintext, protected.encode("ascii"))
    wrapped = aes_key_wrap(concat_kdf(shared, KEY_ALGORITHM, _KEY_BYTES), content_key)
    reply = {
        "protected": protected,
        "encrypted_key": encode_base64url(wrapped),
        "iv": encode_base64url(iv),
        "ciphertext": encode_base64url(sealed[:-_TAG_BYTES]),
        "tag": encode_base64url(sealed[-_TAG_BYTES:]),
    }
    return json.dumps(reply, separators=(",", ":")).encode("ascii")


def public_jwk(key: ec.EllipticCurvePublicKey) -> EcPublicJwk:
    """Return the P-256 key as a JWK."""
    numbers = key.public_numbers()
    return EcPublicJwk(
        x=numbers.x.to_bytes(COORDINATE_BYTES, "big"), y=numbers.y.to_bytes(COORDINATE_BYTES, "big")
    )
