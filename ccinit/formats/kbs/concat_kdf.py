"""Concat KDF with SHA-256: keys from a key agreement (RFC 7518 section 4.6.2, NIST SP 800-56A)."""

import hashlib


def concat_kdf(
    shared: bytes,
    algorithm: str,
    key_bytes: int,
    *,
    party_u: bytes = b"",
    party_v: bytes = b"",
) -> bytes:
    """Derive a key of `key_bytes`, at most 32, in one round."""
    identity = b"".join(
        len(field).to_bytes(4, "big") + field
        for field in (algorithm.encode("ascii"), party_u, party_v)
    )
    text = b"\x00\x00\x00\x01" + shared + identity + (8 * key_bytes).to_bytes(4, "big")
    return hashlib.sha256(text).digest()[:key_bytes]
