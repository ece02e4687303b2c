"""Sealing what a guest carries for this KBS, under a key that never leaves the state.

A verifier is pure and remembers nothing, and a sealed log is judged without a session. So what the
KBS must know later about a request travels with it and comes back with the evidence.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ccinit.errors import VerificationError

SEALING_KEY_BYTES = 32
_IV_BYTES = 12


def seal(key: bytes, label: bytes, content: bytes) -> bytes:
    """Return `content` sealed; only the same key and label open it."""
    iv = os.urandom(_IV_BYTES)
    return iv + AESGCM(key).encrypt(iv, content, label)


def unseal(key: bytes | None, label: bytes, sealed: bytes, size_bytes: int, reason: str) -> bytes:
    """Return what was sealed; `key` is None where none was made yet.

    Raises:
        VerificationError: with `reason`, it was not sealed under this key and label, or has
            another size.
    """
    if key is None:
        raise VerificationError(reason, "there is no key that requests were made under")
    try:
        content = AESGCM(key).decrypt(sealed[:_IV_BYTES], sealed[_IV_BYTES:], label)
    except (InvalidTag, ValueError) as error:
        raise VerificationError(reason, "not one that this KBS made") from error
    if len(content) != size_bytes:
        raise VerificationError(reason, "not one that this KBS made")
    return content
