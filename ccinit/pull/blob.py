"""Verifying a blob's digest and size from a stream; nothing is valid before the last byte.

Size and digest are known beforehand, so a stream that is too long is refused at once; one that is
too short or different shows only at the end. The caller must discard whatever it made from the
stream unless `finish` returns.
"""

import hashlib

from ccinit.errors import VerificationError
from ccinit.formats.oci.image import Descriptor


class BlobVerifier:
    """Checks one stream of bytes against a descriptor."""

    def __init__(self, expected: Descriptor) -> None:
        """Args: expected: what the stream must be."""
        self._expected = expected
        self._hash = hashlib.sha256()
        self.received_bytes = 0

    @property
    def missing_bytes(self) -> int:
        """How many bytes are still to come."""
        return self._expected.size - self.received_bytes

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            VerificationError: `pull.blob_size`, more than the descriptor says.
        """
        self.received_bytes += len(data)
        if self.missing_bytes < 0:
            raise VerificationError("pull.blob_size", f"longer than {self._expected.size} bytes")
        self._hash.update(data)

    def finish(self) -> None:
        """Say that the stream has ended.

        Raises:
            VerificationError: `pull.blob_size` or `pull.blob_digest`.
        """
        if self.missing_bytes:
            raise VerificationError("pull.blob_size", f"{self.missing_bytes} bytes are missing")
        if self._hash.hexdigest() != self._expected.digest.hex:
            raise VerificationError("pull.blob_digest", f"not {self._expected.digest}")


def verify_blob(data: bytes, expected: Descriptor) -> bytes:
    """Return `data` if it is the blob that `expected` describes.

    Raises:
        VerificationError: `pull.blob_size` or `pull.blob_digest`.
    """
    verifier = BlobVerifier(expected)
    verifier.feed(data)
    verifier.finish()
    return data
