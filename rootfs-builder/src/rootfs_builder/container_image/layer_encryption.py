"""Encrypt a layer as ocicrypt does; `ccinit.formats` reads the annotations of its descriptor.

A layer is compressed first, then encrypted: AES-256-CTR under a fresh key, HMAC-SHA256 over the
ciphertext under the same key. The key is wrapped once for each recipient: as a JWE to a public key,
which skopeo and podman open, too, or as a CoCo packet under a key that a KBS will have. Packets are
always A256GCM.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ccinit.errors import ConfigError
from ccinit.formats.encoding.strict_json import encode_base64url
from ccinit.formats.kbs.concat_kdf import concat_kdf
from ccinit.formats.kbs.jwe_message import CONTENT_ALGORITHM, IV_BYTES, TAG_BYTES, KeyAlgorithm
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.layer_encryption import (
    CIPHER,
    KEY_BYTES,
    NONCE_BYTES,
    PUBLIC_OPTIONS,
    WRAPPED_KEYS,
    PacketCipher,
)
from measured_boot.command_line.files import MAX_KEY_BYTES, read_capped

PACKET_SCHEME = "provider.attestation-agent"
"""The name under which CoCo's tools and agents look for their packets."""

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_MIN_RSA_BITS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeyRecipient:
    """The holder of a private key: RSA from 2048 bits, or on P-256, P-384 or P-521."""

    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class KbsRecipient:
    """A guest to which a KBS releases `uri`, whose content is the 32 bytes of `key`."""

    uri: ResourceUri
    key: bytes = field(repr=False)


Recipient = PublicKeyRecipient | KbsRecipient


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedBlob:
    """Ciphertext, and the annotations of its descriptor."""

    blob: bytes
    annotations: Mapping[str, str]


def load_recipient(path: Path) -> PublicKeyRecipient:
    """Read the file of a public key, PEM.

    Raises:
        ConfigError: `encrypt.recipient`.
    """
    try:
        key = load_pem_public_key(read_capped(path, MAX_KEY_BYTES))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError("encrypt.recipient", f"{path}: not a public key in PEM") from error
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return PublicKeyRecipient(key=key)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return PublicKeyRecipient(key=key)
    detail = f"{path}: neither RSA of 2048 bits nor on a NIST curve"
    raise ConfigError("encrypt.recipient", detail)


def encrypt_layer(blob: bytes, recipients: Sequence[Recipient]) -> EncryptedBlob:
    """Encrypt a packed layer to every recipient, at least one.

    Raises:
        ConfigError: `encrypt.recipient`, there is none.
    """
    if not recipients:
        raise ConfigError("encrypt.recipient", "nobody could open the layer")
    key, nonce = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(NONCE_BYTES)
    ciphertext = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor().update(blob)
    private = {
        "symkey": _base64(key),
        "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}",
        "cipheroptions": {"nonce": _base64(nonce)},
    }
    public = {
        "cipher": CIPHER,
        "hmac": _base64(hmac.digest(key, ciphertext, "sha256")),
        "cipheroptions": {},
    }
    wraps: dict[str, list[str]] = {}
    for recipient in recipients:
        scheme, wrapped = _wrap(_json(private), recipient)
        wraps.setdefault(WRAPPED_KEYS + scheme, []).append(_base64(wrapped))
    annotations = {name: ",".join(texts) for name, texts in wraps.items()}
    return EncryptedBlob(
        blob=ciphertext, annotations={**annotations, PUBLIC_OPTIONS: _base64(_json(public))}
    )


def _wrap(private: bytes, recipient: Recipient) -> tuple[str, bytes]:
    if isinstance(recipient, KbsRecipient):
        return PACKET_SCHEME, seal_packet(private, recipient)
    return "jwe", seal_jwe(private, recipient)


def seal_packet(plaintext: bytes, recipient: KbsRecipient) -> bytes:
    """Return a CoCo packet, version 1, that every version reads."""
    iv = secrets.token_bytes(IV_BYTES)
    return _json(
        {
            "kid": str(recipient.uri),
            "wrapped_data": _base64(AESGCM(recipient.key).encrypt(iv, plaintext, None)),
            "iv": _base64(iv),
            "wrap_type": PacketCipher.GCM.value,
        }
    )


def seal_jwe(plaintext: bytes, recipient: PublicKeyRecipient) -> bytes:
    """Return a flattened JWE (RFC 7516 section 7.2.2)."""
    content_key, iv = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(IV_BYTES)
    header, encrypted_key = _encrypt_key(content_key, recipient)
    protected = encode_base64url(_json({**header, "enc": CONTENT_ALGORITHM}))
    sealed = AESGCM(content_key).encrypt(iv, plaintext, protected.encode())
    return _json(
        {
            "protected": protected,
            "encrypted_key": encode_base64url(encrypted_key),
            "iv": encode_base64url(iv),
            "ciphertext": encode_base64url(sealed[:-TAG_BYTES]),
            "tag": encode_base64url(sealed[-TAG_BYTES:]),
        }
    )


def _encrypt_key(
    content_key: bytes, recipient: PublicKeyRecipient
) -> tuple[Mapping[str, object], bytes]:
    """Header parameters and encrypted key; the algorithms are ocicrypt's own choices."""
    public = recipient.key
    if isinstance(public, rsa.RSAPublicKey):
        # In OAEP SHA-1 is no weakness, and it is the one hash that all ocicrypt readers support.
        sha1 = hashes.SHA1()  # noqa: S303
        oaep = padding.OAEP(mgf=padding.MGF1(sha1), algorithm=sha1, label=None)
        return {"alg": KeyAlgorithm.RSA_OAEP.value}, public.encrypt(content_key, oaep)
    ephemeral = ec.generate_private_key(public.curve)
    algorithm = KeyAlgorithm.ECDH_ES_A256KW
    shared = ephemeral.exchange(ec.ECDH(), public)
    wrapping_key = concat_kdf(shared, algorithm, algorithm.wrapping_key_bytes)
    epk = _public_jwk(ephemeral.public_key())
    return {"alg": algorithm.value, "epk": epk}, aes_key_wrap(wrapping_key, content_key)


def _public_jwk(key: ec.EllipticCurvePublicKey) -> Mapping[str, str]:
    numbers, length = key.public_numbers(), (key.key_size + 7) // 8
    return {
        "kty": "EC",
        "crv": _CURVES[key.curve.name],
        "x": encode_base64url(numbers.x.to_bytes(length, "big")),
        "y": encode_base64url(numbers.y.to_bytes(length, "big")),
    }


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
