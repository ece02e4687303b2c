"""A blob that is wrong until its last byte agreed: digest and size, from a stream.

The digest is known before the first byte, so a stream that is longer is refused at once; that one
is shorter or different shows at the end only. Whoever feeds a verifier keeps nothing of what it
made from the stream unless `finish` returned.
"""

import hashlib

from ccinit.errors import VerificationError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.oci.image import Descriptor


class BlobVerifier:
    """Follows one stream of bytes that must be the blob of a descriptor."""

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
            VerificationError: `pull.blob_size`, there are more than announced.
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
    if len(data) != expected.size:
        raise VerificationError("pull.blob_size", f"{len(data)} bytes, not {expected.size}")
    if sha256_digest(data) != expected.digest:
        raise VerificationError("pull.blob_digest", f"not {expected.digest}")
    return data
