"""The listing of a tree that a test writes down record by record, in the listing's order."""

from collections import Counter

from ccinit.formats.encoding.digest import Digest
from ccinit.pull.layers.listing import Attributes, Content, Listing, ListingPart


class ExpectedListing:
    """Takes records as `ListingPart` does, and enters their directories when all are there."""

    def __init__(self) -> None:
        self._records: list[tuple[str, bytes, tuple[object, ...]]] = []

    def directory(self, path: bytes, attributes: Attributes) -> None:
        self._records.append(("directory", path, (attributes,)))

    def file(
        self, path: bytes, attributes: Attributes, size: int, content: Content, first: bytes
    ) -> None:
        self._records.append(("file", path, (attributes, size, content, first)))

    def symlink(self, path: bytes, attributes: Attributes, target: bytes, first: bytes) -> None:
        self._records.append(("symlink", path, (attributes, target, first)))

    def whiteout(self, path: bytes) -> None:
        self._records.append(("whiteout", path, ()))

    def digests(self) -> tuple[Digest, ...]:
        names = Counter(folder_of(path) for _kind, path, _rest in self._records if path)
        listing, parts = Listing(), dict[bytes, ListingPart]()
        parts[b""] = listing.enter(b"", names[b""])
        for kind, path, rest in self._records:
            getattr(parts[folder_of(path)], kind)(path, *rest)
            if kind == "directory" and path:
                parts[path] = listing.enter(path, names[path])
        return listing.digests()


def folder_of(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
