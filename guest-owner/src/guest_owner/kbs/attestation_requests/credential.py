"""TPM2_MakeCredential: a secret that opens only in a TPM that holds both of two keys.

TPM 2.0 Library, part 1, section 24 (credential protection), with KDFa of section 11.4.10.2: a seed
is encrypted to the endorsement key by RSA-OAEP; from it come a key for AES-128-CFB, bound to the
name of the other key, and one for the HMAC over the result and that name.
"""

import hashlib
import hmac
import os
import struct
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256

from ccinit.errors import FormatError
from ccinit.formats.tcg.tpm2 import TpmtPublic

_SEED_BYTES = 32
_KEY_BITS = 128
_BLOCK_BYTES = 16


@dataclass(frozen=True, slots=True)
class Credential:
    """TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, without their lengths."""

    blob: bytes
    secret: bytes


def make_credential(endorsement_key: TpmtPublic, name: bytes, content: bytes) -> Credential:
    """Return a credential with `content`, at most 32 bytes, for the key called `name`.

    Args:
        endorsement_key: RSA, with AES-128-CFB and SHA-256, as of the default template.
        name: of the other key.
        content: the secret that only that TPM can recover.

    Raises:
        FormatError: `tpm2.modulus`, no RSA key has this one.
    """
    seed = os.urandom(_SEED_BYTES)
    secret = _encrypt_seed(endorsement_key, seed)
    cipher = Cipher(AES(_kdfa(seed, b"STORAGE", name, _KEY_BITS)), CFB(bytes(_BLOCK_BYTES)))
    encryptor = cipher.encryptor()
    identity = encryptor.update(_sized(content)) + encryptor.finalize()
    integrity_key = _kdfa(seed, b"INTEGRITY", b"", 256)
    outer = hmac.digest(integrity_key, identity + name, hashlib.sha256)
    return Credential(blob=_sized(outer) + identity, secret=secret)


def _encrypt_seed(endorsement_key: TpmtPublic, seed: bytes) -> bytes:
    modulus = int.from_bytes(endorsement_key.modulus, "big")
    padding = OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=b"IDENTITY\0")
    try:
        key = RSAPublicNumbers(endorsement_key.exponent, modulus).public_key()
        return key.encrypt(seed, padding)
    except ValueError as error:  # an even one, for example
        raise FormatError("tpm2.modulus", "nothing can be encrypted to this key") from error


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """One round of SHA-256, which is enough for 256 bits."""
    message = struct.pack(">I", 1) + label + b"\0" + context + struct.pack(">I", bits)
    return hmac.digest(key, message, hashlib.sha256)[: bits // 8]


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data
