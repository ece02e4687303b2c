"""Digests of a layer's files, taken while its tar arrives, for layers whose tar will be removed."""

import hashlib
from collections.abc import Mapping

from ccinit.formats.encoding.digest import Digest
from ccinit.formats.oci.tar_entry import TarEntry


class ContentDigests:
    """SHA-256 of each non-empty file content, by its offset in the tar."""

    def __init__(self) -> None:
        self._found: dict[int, Digest] = {}
        self._hash = hashlib.sha256()
        self._offset = 0  # of the current content, 0 if there is none

    def begin(self, entry: TarEntry) -> None:
        """Begin the next entry; the content of the one before is complete."""
        self._end()
        if entry.size:
            self._hash = hashlib.sha256()
            self._offset = entry.offset

    def feed(self, data: memoryview) -> None:
        """Take the next bytes of the entry's content."""
        self._hash.update(data)

    def finish(self) -> Mapping[int, Digest]:
        """Return all digests, at the end of the archive."""
        self._end()
        return self._found

    def _end(self) -> None:
        if self._offset:
            self._found[self._offset] = Digest(self._hash.hexdigest())
            self._offset = 0
