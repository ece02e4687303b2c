"""An OCI content digest (image-spec, descriptor.md, "Digests"); `sha256` only.

SHA-512 is registered too, but no image in the field needs it, and a second algorithm would be a
second name for the same content.
"""

import hashlib

from ccinit.errors import FormatError
from ccinit.formats.encoding.hexadecimal import HEX_DIGITS
from ccinit.values import frozen

_SHA256_HEX_LENGTH = 64


@frozen(kw_only=False)
class Digest:
    """A SHA-256 digest; `str()` gives `sha256:<64 lower-case hex digits>`."""

    hex: str

    @property
    def raw(self) -> bytes:
        """The 32 digest bytes."""
        return bytes.fromhex(self.hex)

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


def parse_digest(text: str, reason: str = "digest.form") -> Digest:
    """Parse `sha256:<hex>`; upper case, other algorithms and other lengths are refused.

    Raises:
        FormatError: with `reason`.
    """
    algorithm, colon, digits = text.partition(":")
    if algorithm != "sha256" or not colon:
        raise FormatError(reason, f"expected a sha256: digest, found {text[:80]!r}")
    if len(digits) != _SHA256_HEX_LENGTH or not HEX_DIGITS.issuperset(digits):
        raise FormatError(reason, "expected 64 lower-case hex digits after sha256:")
    return Digest(digits)


def sha256_digest(data: bytes) -> Digest:
    """Return the digest of `data`."""
    return Digest(hashlib.sha256(data).hexdigest())
