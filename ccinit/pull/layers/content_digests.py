"""The digests of a layer's files while its tar comes, for layers of which no tar will be left."""

import hashlib
from collections.abc import Mapping

from ccinit.formats.encoding.digest import Digest
from ccinit.formats.oci.tar import TarEntry


class ContentDigests:
    """SHA-256 of each content that is not empty, by its offset in the tar."""

    def __init__(self) -> None:
        self._found: dict[int, Digest] = {}
        self._hash = hashlib.sha256()
        self._offset = 0  # of the content that comes now, 0 if none does

    def begin(self, entry: TarEntry) -> None:
        """Take note of the next entry; the one before has all of its content."""
        self._end()
        if entry.size:
            self._hash = hashlib.sha256()
            self._offset = entry.offset

    def feed(self, data: memoryview) -> None:
        """Take the next bytes of the entry's content."""
        self._hash.update(data)

    def finish(self) -> Mapping[int, Digest]:
        """Return all of them; the archive is over."""
        self._end()
        return self._found

    def _end(self) -> None:
        if self._offset:
            self._found[self._offset] = Digest(self._hash.hexdigest())
            self._offset = 0
