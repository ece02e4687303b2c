"""A TPM in a few lines: an RSA key that signs quotes over registers that the test chooses.

The bytes are laid out here a second time, from the TPM 2.0 Library (part 2, sections 10.12.12 and
11.3.4), and not with the project's own encoders: parser and fake can then only agree if both follow
the specification.
"""

import hashlib
import struct
from dataclasses import dataclass, field
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.formats.evidence.tpm import TpmEvidence

GENERATED = 0xFF544347
QUOTE = 0x8018
CERTIFY = 0x8017
RSASSA = 0x0014
RSAPSS = 0x0016
SHA1 = 0x0004
SHA256_BANK = 0x000B
SHA384 = 0x000C
ALL_PCRS = b"\xff\xff\xff"


@cache
def rsa_key(number: int, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One key for each number and size; making them is the slow part of these tests."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def extend(value: bytes, digest: bytes) -> bytes:
    """One TPM2_PCR_Extend in the SHA-256 bank."""
    return hashlib.sha256(value + digest).digest()


@dataclass(kw_only=True)
class FakeTpm:
    """Registers and a key; `quote` signs whatever it is told to."""

    key: rsa.RSAPrivateKey
    pcrs: list[bytes] = field(default_factory=lambda: [bytes(32)] * 24)

    @property
    def public_der(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def quote(
        self,
        extra_data: bytes,
        *,
        magic: int = GENERATED,
        kind: int = QUOTE,
        bank: int = SHA256_BANK,
        selected: bytes = ALL_PCRS,
        pcr_digest: bytes | None = None,
        scheme: int = RSASSA,
        hash_algorithm: int = SHA256_BANK,
    ) -> TpmEvidence:
        """Sign a quote; every argument but the first makes it wrong in one way."""
        digest = hashlib.sha256(b"".join(self.pcrs)).digest() if pcr_digest is None else pcr_digest
        message = b"".join(
            (
                struct.pack(">IH", magic, kind),
                _sized(b"\x00\x0b" + bytes(32)),  # qualifiedSigner: a name
                _sized(extra_data),
                struct.pack(">QIIB", 123_456, 7, 0, 1),  # clockInfo
                struct.pack(">Q", 0x2024_0101_0000_0000),  # firmwareVersion
                struct.pack(">IHB", 1, bank, len(selected)) + selected,
                _sized(digest),
            )
        )
        raw = self.key.sign(message, PKCS1v15(), SHA256())
        return TpmEvidence(
            message=message,
            signature=struct.pack(">HH", scheme, hash_algorithm) + _sized(raw),
            pcrs=tuple(self.pcrs),
            ak_public_der=self.public_der,
        )


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data
