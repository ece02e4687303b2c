"""The listing of a tree that a test writes down record by record, in the listing's order."""

from collections import Counter

from ccinit.formats.encoding.digest import Digest
from ccinit.pull.layers.listing import Attributes, Content, Listing, ListingPart


class ExpectedListing:
    """Takes records as `ListingPart` does, and gives each directory's to a part when all are there.

    By hand, which the real one is held against: directories in their order, each to the part that
    has fewest records so far.
    """

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
        names = Counter(folder_of(path) for _kind, path, _rest in self._records)
        listing, parts = Listing(), dict[bytes | None, ListingPart]()
        for kind, path, rest in self._records:
            folder = folder_of(path)
            if folder not in parts:
                parts[folder] = listing.next_part
                parts[folder].expect(names[folder])
            getattr(parts[folder], kind)(path, *rest)
        return listing.digests()


def folder_of(path: bytes) -> bytes | None:
    return path.rpartition(b"/")[0] if path else None
