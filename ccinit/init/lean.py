"""Libraries that PID 1 goes without; call these before anything else is imported."""

import os
import sys

NO_LEGACY = {"CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1"}
"""Environment that keeps `cryptography` from loading OpenSSL's legacy provider (RC4, DES, …)."""


def disable_libraries() -> None:
    """Disable all of them."""
    hash_without_openssl()
    os.environ.update(NO_LEGACY)


def hash_without_openssl() -> None:
    """Make `hashlib` use the interpreter's own SHA-2.

    PID 1 hashes a few kilobytes in its lifetime. For that, a second OpenSSL beside the one its
    ciphers use would cost 4 MB.
    """
    sys.modules["_hashlib"] = None  # type: ignore[assignment]  # makes its import fail
