"""What PID 1 goes without; to be said before anything else is imported."""

import os
import sys

NO_LEGACY = {"CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1"}
"""Environment: `cryptography` does not load OpenSSL's provider of RC4, DES and their kind."""


def go_without() -> None:
    """Leave out all of it."""
    leave_openssl_out()
    os.environ.update(NO_LEGACY)


def leave_openssl_out() -> None:
    """Make `hashlib` use the interpreter's own SHA-2.

    PID 1 hashes a few kilobytes in its life. A second OpenSSL beside that of its ciphers would cost
    it 4 MB for that.
    """
    sys.modules["_hashlib"] = None  # type: ignore[assignment]  # how an import is made to fail
