"""The owner's log key: an MLKEM768-X25519 key pair kept as one 32-byte seed.

Scope: making, storing and loading the key that sealed logs are encrypted to. The seed is expanded
as the X-Wing KEM does it (draft-connolly-cfrg-xwing-kem, "expandDecapsulationKey"): SHAKE-256
gives 96 bytes, the first 64 are the ML-KEM-768 seed (d ‖ z), the last 32 the X25519 scalar. Left
to others: decryption (`guest_owner.sealed_log.unseal`).
"""

import base64
import binascii
import hashlib
import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from ccinit.errors import FormatError
from guest_owner.files import write_new

SEED_BYTES: Final = 32
_MLKEM_SEED_BYTES: Final = 64
_EXPANDED_BYTES: Final = 96
_MAX_FILE_BYTES: Final = 256
_MLKEM_PUBLIC_BYTES: Final = 1184


class LogKey:
    """A private log key. `repr` shows nothing of it."""

    def __init__(self, seed: bytes) -> None:
        """Args: seed: 32 secret random bytes."""
        if len(seed) != SEED_BYTES:
            raise FormatError("log_key.seed", f"expected {SEED_BYTES} bytes, found {len(seed)}")
        expanded = hashlib.shake_256(seed).digest(_EXPANDED_BYTES)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES])
        x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:])
        self._seed = seed
        self.private_key: Final = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public_bytes: Final = (
            mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        )

    @property
    def public_text(self) -> str:
        """The value of `log.public_key` in ccinit.toml."""
        return base64.b64encode(self.public_bytes).decode()

    def write(self, path: Path) -> None:
        """Write the seed to a new file that only its user can read.

        Raises:
            ConfigError: `log_key.exists`: a log key is never overwritten; `state.write`.
        """
        text = base64.b64encode(self._seed) + b"\n"
        write_new(path, text, "log_key.exists", "old logs would be lost with it")


def new_log_key() -> LogKey:
    """Make a key from the operating system's randomness."""
    return LogKey(os.urandom(SEED_BYTES))


def verify_public_key(data: bytes) -> None:
    """Refuse 1216 bytes that a guest could not seal its log to.

    It would find out in CONFIG, and have no log that says so.

    Raises:
        FormatError: `seal.owner_key`.
    """
    try:
        MLKEM768PublicKey.from_public_bytes(data[:_MLKEM_PUBLIC_BYTES])
        point = X25519PublicKey.from_public_bytes(data[_MLKEM_PUBLIC_BYTES:])
        X25519PrivateKey.generate().exchange(point)  # nothing, if the point is of low order
    except ValueError as error:
        detail = "not the public half of a log key: `guest-owner log-key public` prints it"
        raise FormatError("seal.owner_key", detail) from error


def parse_log_key(text: bytes) -> LogKey:
    """Read the content of a key file.

    Raises:
        FormatError: `log_key.form` or `log_key.seed`.
    """
    if len(text) > _MAX_FILE_BYTES:
        raise FormatError("log_key.form", "too long for a log key")
    try:
        seed = base64.b64decode(text.strip(), validate=True)
    except binascii.Error as error:
        raise FormatError("log_key.form", "not base64") from error
    return LogKey(seed)
