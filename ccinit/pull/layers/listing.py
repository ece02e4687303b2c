"""The canonical listing of a layer: one record for each path, hashed in one order.

The pass over a tar determines what a layer must contain; the walk of the mounted erofs, what the
kernel shows of it. Both write the same listing, so equal digests mean equal trees: types,
permission bits, owners, times in seconds, sizes, link targets, extended attributes, which names
share an inode, and for each file where in the tar its bytes lie, or their digest if the layer's tar
is gone. Sub-second times are left out (erofs has them, but mkfs.erofs misreads the fraction).

Order: a directory before its children, children by the bytes of their names. The records are hashed
in two parts, so that two processors can walk one tree; all names of one directory are in the same
part. Both parts record how many names each directory has, since that decides which part gets it: so
nothing in one part can make the walker of the other miss a directory (docs/decisions/0032).
"""

import hashlib
from enum import Enum
from functools import lru_cache
from operator import attrgetter

from ccinit.formats.encoding.digest import Digest
from ccinit.pull.messages.tree import LISTING_PARTS
from ccinit.values import frozen

Xattrs = tuple[tuple[bytes, bytes], ...]
"""Names and values, sorted by name."""

_MAX_KNOWN = 1024

OPAQUE = (b"trusted.overlay.opaque", b"y")
"""Makes overlayfs hide a directory's content in lower layers."""

HOLDS_WHITEOUTS = (b"trusted.overlay.origin", b"")
"""mkfs.erofs sets this on a directory with whiteouts, so that overlayfs hides them."""


Content = int | Digest
"""Identifies the content of a file: its offset in the layer's tar, or its digest."""


class NodeKind(Enum):
    """What can be at a path; a layer may contain nothing else."""

    FILE = b"f"
    SYMLINK = b"l"
    DIRECTORY = b"d"
    WHITEOUT = b"w"


@frozen(kw_only=False)
class Attributes:
    """Permission bits, owner, whole seconds since 1970, and xattrs sorted by name."""

    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: Xattrs = ()


@lru_cache(maxsize=_MAX_KNOWN)
def attributes_of(mode: int, uid: int, gid: int, mtime: int, xattrs: Xattrs) -> Attributes:
    """Return the attributes; equal ones share a value, since most paths of a layer look alike."""
    return Attributes(mode, uid, gid, mtime, xattrs)


class ListingPart:
    """The records of the names in some of a tree's directories.

    Attributes:
        position: among the parts.
        names: how many names are in those directories; each gets a record.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.names = 0
        self._hash = hashlib.sha256()

    def enter(self, path: bytes, names: int) -> None:
        """Record how many names a directory has, whether it belongs to this part or another."""
        self._add_fields(b"n", path, b"%d" % names)

    def directory(self, path: bytes, attributes: Attributes) -> None:
        """Add a directory; `path` is relative, the root's is empty."""
        self._add(NodeKind.DIRECTORY, path, _numbers(attributes), attributes.xattrs)

    def file(
        self, path: bytes, attributes: Attributes, size: int, content: Content, first: bytes
    ) -> None:
        """Add a file.

        Args:
            path: relative to the layer's root.
            attributes: of its inode.
            size: bytes.
            content: where it begins in the tar, or its digest; 0 if empty.
            first: the first path in the listing's order that has the same inode.
        """
        numbers = b"%b %d %b" % (_numbers(attributes), size, str(content).encode())
        self._add(NodeKind.FILE, path, numbers, attributes.xattrs, first)

    def symlink(self, path: bytes, attributes: Attributes, target: bytes, first: bytes) -> None:
        """Add a symbolic link; `first` as for a file."""
        self._add(NodeKind.SYMLINK, path, _numbers(attributes), (), target, first)

    def whiteout(self, path: bytes) -> None:
        """Add a whiteout; its owner and time mean nothing."""
        self._add(NodeKind.WHITEOUT, path, b"", ())

    def digest(self) -> Digest:
        """Return the digest of what was added so far."""
        return Digest(self._hash.hexdigest())

    def _add(
        self, kind: NodeKind, path: bytes, numbers: bytes, xattrs: Xattrs, *texts: bytes
    ) -> None:
        fields = (kind.value, path, numbers, *texts)
        if xattrs:
            fields += tuple(name + b"=" + value.hex().encode() for name, value in xattrs)
        self._add_fields(*fields)

    def _add_fields(self, *fields: bytes) -> None:
        # Paths and link targets have no NUL, and values are in hex, so records are unambiguous.
        self._hash.update(b"%d\0%b\n" % (len(fields), b"\0".join(fields)))


class Listing:
    """A listing under construction."""

    def __init__(self) -> None:
        self._parts = tuple(map(ListingPart, range(LISTING_PARTS)))

    @property
    def records(self) -> int:
        """How many records there will be: the root's, and one for each name entered."""
        return 1 + sum(part.names for part in self._parts)

    @property
    def next_part(self) -> ListingPart:
        """Return the part for the names of the next directory: the one with the fewest."""
        return min(self._parts, key=attrgetter("names"))

    def enter(self, path: bytes, names: int) -> ListingPart:
        """Begin a directory, the root with the empty path first.

        Args:
            path: relative to the layer's root.
            names: how many are in it.

        Returns:
            The part for their records; the root's own record precedes those of its names, in the
            same part.
        """
        chosen = self.next_part
        chosen.names += names
        for part in self._parts:
            part.enter(path, names)
        return chosen

    def digests(self) -> tuple[Digest, ...]:
        """Return the digest of each part."""
        return tuple(part.digest() for part in self._parts)


def _numbers(attributes: Attributes) -> bytes:
    return b"%o %d %d %d" % (attributes.mode, attributes.uid, attributes.gid, attributes.mtime)
