"""The tree that the entries of one layer's tar form, under the rules of image-spec layer.md.

Each entry is applied to a tree in memory. An entry that is ambiguous, could reach out of the tree,
or would be built differently by mkfs.erofs is refused, with a reason. Whiteouts become those of
overlayfs (`--aufs` of mkfs.erofs). Directories that an entry needs but the layer does not describe
get their attributes from the layers below. Reading the tar is left to `tar_pass`.

The rows of the threat table that are enforced here: links (R63), special files and attributes
(R65), whiteouts (R66), sizes of everything (R67), repeated paths (R68).
"""

from collections.abc import Iterator, Mapping

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.oci.tar_entry import TarEntry, TarKind
from ccinit.pull.layers.listing import (
    HOLDS_WHITEOUTS,
    OPAQUE,
    Attributes,
    Content,
    Listing,
    ListingPart,
    NodeKind,
    attributes_of,
)
from ccinit.values import frozen

_WHITEOUT = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"
_MAX_XATTR_NAME_BYTES = 255
_ALLOWED_XATTRS = frozenset(
    (b"security.capability", b"user.overlay.impure", b"user.overlay.origin")
)
"""Beside `user.*`. Rootless builders (Buildah until 2024) have left two marks of their overlays in
layers: notes on where an inode came from, which mean nothing to an overlay without `userxattr`, as
ours is. Their other marks say that something is hidden or elsewhere, and stay refused."""
_ROOT_OWNED = Attributes(mode=0o755, uid=0, gid=0, mtime=0)


@frozen
class TreeLimits:
    """Caps on one layer: a guest has little memory, and mkfs.erofs searches directories linearly.

    Attributes:
        entries: those of the tar, and the directories that they imply: a path may imply hundreds.
    """

    entries: int = 400_000
    directory_entries: int = 65_536
    depth: int = 255
    xattr_bytes: int = 16 * 1024


class Node:
    """One inode of the layer; hard links share it."""

    __slots__ = ("attributes", "first", "has_names", "kind", "link", "offset", "size")

    def __init__(self, kind: NodeKind, attributes: Attributes, entry: TarEntry | None) -> None:
        self.kind = kind
        self.attributes = attributes
        self.size = entry.size if entry else 0
        self.offset = entry.offset if entry and entry.size else 0
        self.link = entry.link if entry else b""
        self.has_names = False  # more than one
        self.first: bytes | None = None


class Directory(Node):
    """A directory; `is_implied` until an entry describes it."""

    __slots__ = ("children", "has_whiteouts", "is_implied", "is_opaque")

    def __init__(self, attributes: Attributes, *, is_implied: bool) -> None:
        super().__init__(NodeKind.DIRECTORY, attributes, None)
        self.children: dict[bytes, Node] = {}
        self.is_implied = is_implied
        self.is_opaque = False
        self.has_whiteouts = False

    def shown(self) -> Attributes:
        """Return the attributes, including the marks for overlayfs."""
        marks = ((OPAQUE,) if self.is_opaque else ()) + (
            (HOLDS_WHITEOUTS,) if self.has_whiteouts else ()
        )
        if not marks:
            return self.attributes
        old = self.attributes
        xattrs = tuple(sorted(old.xattrs + marks))
        return Attributes(old.mode, old.uid, old.gid, old.mtime, xattrs)


class MergedDirectory:
    """A directory as the layers below show it: attributes and sub-directories, no files."""

    __slots__ = ("attributes", "children")

    def __init__(self, attributes: Attributes) -> None:
        self.attributes = attributes
        self.children: dict[bytes, MergedDirectory] = {}

    def apply(self, upper: Directory) -> None:
        """Lay `upper` over this directory."""
        pending = [(self, upper)]
        while pending:
            merged, directory = pending.pop()
            merged.attributes = directory.attributes
            if directory.is_opaque:
                merged.children.clear()
            for name, node in directory.children.items():
                if not isinstance(node, Directory):
                    merged.children.pop(name, None)
                    continue
                below = merged.children.get(name)
                if below is None:
                    below = merged.children[name] = MergedDirectory(node.attributes)
                pending.append((below, node))


def empty_merged_root() -> MergedDirectory:
    """Return the empty tree below the first layer."""
    return MergedDirectory(_ROOT_OWNED)


class _Level:
    """A directory on the way down, in the listing's order."""

    __slots__ = ("children", "names", "part", "prefix")

    def __init__(self, path: bytes, directory: Directory, listing: Listing) -> None:
        self.prefix = path + b"/" if path else b""
        self.children = directory.children
        self.names = iter(sorted(directory.children))
        self.part = listing.enter(path, len(directory.children))


class LayerTree:
    """The tree that a layer's entries build, on top of what the layers below show."""

    def __init__(self, below: MergedDirectory, limits: TreeLimits) -> None:
        """Args: below: the layers below, merged; not changed. limits: caps of this layer."""
        self.root = Directory(_ROOT_OWNED, is_implied=True)
        self._below = below
        self._limits = limits
        self._entries = 0
        # The previous entry's parent; stays valid, since an entry only replaces nodes below its
        # parent.
        self._last: tuple[bytes, Directory] = (b"", self.root)

    def add(self, entry: TarEntry) -> None:
        """Apply the next entry.

        Raises:
            FormatError: `tar.…`, the rule it breaks.
            LimitExceededError: `tar.entries`, `tar.directory_entries`, `tar.depth`.
        """
        if entry.path.count(b"/") >= self._limits.depth:
            raise LimitExceededError("tar.depth", f"deeper than {self._limits.depth}")
        self._count()
        attributes = self._attributes(entry)
        if not entry.path:
            if entry.kind is not TarKind.DIRECTORY:
                raise FormatError("tar.root_type", f"the root is a {entry.kind.value}")
            _describe(self.root, attributes)
            return
        parent_path, _slash, name = entry.path.rpartition(b"/")
        parent = self._parent(parent_path)
        if name.startswith(_WHITEOUT):
            self._whiteout(parent, name, entry)
            return
        existing = parent.children.get(name)
        if existing is not None and existing.kind is NodeKind.WHITEOUT:
            raise FormatError("tar.whiteout_own", f"{entry.path[:80]!r} comes with its whiteout")
        if entry.kind is TarKind.DIRECTORY and isinstance(existing, Directory):
            _describe(existing, attributes)
            return
        if existing is not None:  # the last one wins, whatever was there
            del parent.children[name]
        self._put(parent, name, self._make(entry, attributes))

    def settle_implied(self) -> Iterator[tuple[bytes, Attributes]]:
        """Give the directories that no entry describes their attributes, parents first.

        Call this after the last entry: an opaque mark may come after the entries that it affects.
        """
        for path, directory, below in walk_directories(self.root, self._below):
            if directory.is_implied:
                directory.attributes = below.attributes if below else _ROOT_OWNED
                yield path, directory.attributes

    def list_into(self, listing: Listing, digests: Mapping[int, Digest] | None = None) -> None:
        """Write the canonical listing of the layer as erofs will show it.

        Args:
            listing: what to write to.
            digests: of each file's content by its offset in the tar, if it is to be listed by them.
        """
        for part, path, node in self._walk(listing):
            if isinstance(node, Directory):
                part.directory(path, node.shown())
            elif node.kind is NodeKind.WHITEOUT:
                part.whiteout(path)
            else:
                first = path
                if node.has_names:
                    first = node.first = path if node.first is None else node.first
                if node.kind is NodeKind.SYMLINK:
                    part.symlink(path, node.attributes, node.link, first)
                else:
                    content: Content = node.offset
                    if digests is not None and node.size:
                        content = digests[node.offset]
                    part.file(path, node.attributes, node.size, content, first)

    def _walk(self, listing: Listing) -> Iterator[tuple[ListingPart, bytes, Node]]:
        """Yield everything in the listing's order; memory as for `walk_directories`."""
        levels = [_Level(b"", self.root, listing)]
        yield levels[0].part, b"", self.root
        while levels:
            level = levels[-1]
            for name in level.names:
                path, node = level.prefix + name, level.children[name]
                yield level.part, path, node
                if isinstance(node, Directory):
                    levels.append(_Level(path, node, listing))
                    break
            else:
                levels.pop()

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise LimitExceededError("tar.entries", f"more than {self._limits.entries}")

    def _attributes(self, entry: TarEntry) -> Attributes:
        if not entry.is_indexable:
            raise FormatError("tar.v7", "a header without the ustar magic or without a type")
        if entry.xattrs:
            self._check_xattrs(entry)
        return attributes_of(entry.mode, entry.uid, entry.gid, entry.mtime, entry.xattrs)

    def _check_xattrs(self, entry: TarEntry) -> None:
        for name, _value in entry.xattrs:
            allowed = name in _ALLOWED_XATTRS or (
                name.startswith(b"user.") and not name.startswith(b"user.overlay.")
            )
            if not allowed or name == b"user." or len(name) > _MAX_XATTR_NAME_BYTES:
                raise FormatError("tar.xattr", f"{name[:80]!r} may not be set by a layer")
        if entry.kind not in (TarKind.FILE, TarKind.DIRECTORY):
            raise FormatError("tar.xattr", f"extended attributes on a {entry.kind.value}")
        if sum(len(name) + len(value) for name, value in entry.xattrs) > self._limits.xattr_bytes:
            raise LimitExceededError("tar.xattr", f"more than {self._limits.xattr_bytes} bytes")

    def _parent(self, path: bytes) -> Directory:
        """Return the directory at `path`, making it if it is missing."""
        if path == self._last[0]:
            return self._last[1]
        directory = self.root
        for name in path.split(b"/") if path else ():
            child = directory.children.get(name)
            if child is None:
                if name.startswith(_WHITEOUT):
                    raise FormatError("tar.whiteout_name", f"{name[:80]!r} as a directory")
                self._count()
                child = Directory(_ROOT_OWNED, is_implied=True)
                self._put(directory, name, child)
            if child.kind is NodeKind.WHITEOUT:
                raise FormatError("tar.whiteout_own", f"{path[:80]!r} comes with its whiteout")
            if not isinstance(child, Directory):
                raise FormatError("tar.parent", f"{name[:80]!r} is not a directory of this layer")
            directory = child
        self._last = (path, directory)
        return directory

    def _whiteout(self, parent: Directory, name: bytes, entry: TarEntry) -> None:
        if entry.kind is not TarKind.FILE or entry.size:
            raise FormatError("tar.whiteout_type", f"{entry.path[:80]!r} is not an empty file")
        if name == OPAQUE_MARKER:
            if parent is self.root:
                raise FormatError("tar.opaque_root", "a layer cannot hide all layers below")
            parent.is_opaque = True
            return
        hidden = name[len(_WHITEOUT) :]
        if hidden in (b"", b".", b"..") or hidden.startswith(_WHITEOUT):
            raise FormatError("tar.whiteout_name", f"{name[:80]!r} hides nothing that can be")
        if hidden in parent.children:
            # A whiteout hides lower layers only; mkfs.erofs would remove what this layer has put
            # there.
            raise FormatError("tar.whiteout_own", f"{entry.path[:80]!r} meets its own layer")
        parent.has_whiteouts = True
        self._put(parent, hidden, Node(NodeKind.WHITEOUT, _ROOT_OWNED, None))

    def _put(self, parent: Directory, name: bytes, node: Node) -> None:
        parent.children[name] = node
        if len(parent.children) > self._limits.directory_entries:
            limit = self._limits.directory_entries
            raise LimitExceededError("tar.directory_entries", f"more than {limit} names")

    def _make(self, entry: TarEntry, attributes: Attributes) -> Node:
        match entry.kind:
            case TarKind.DIRECTORY:
                return Directory(attributes, is_implied=False)
            case TarKind.FILE:
                return Node(NodeKind.FILE, attributes, entry)
            case TarKind.SYMLINK:
                return Node(NodeKind.SYMLINK, attributes, entry)
            case TarKind.HARD_LINK:
                return self._target(entry.link)
            case TarKind.CHARACTER_DEVICE | TarKind.BLOCK_DEVICE:
                raise FormatError("tar.device", f"{entry.path[:80]!r} is a {entry.kind.value}")
            case TarKind.FIFO:
                raise FormatError("tar.fifo", f"{entry.path[:80]!r} is a fifo")

    def _target(self, path: bytes) -> Node:
        """Return the inode that a hard link names: made earlier by this layer, no directory."""
        node: Node | None = self.root
        for name in path.split(b"/"):
            node = node.children.get(name) if isinstance(node, Directory) else None
        if node is None or node.kind is NodeKind.WHITEOUT:
            raise FormatError("tar.hardlink_missing", f"{path[:80]!r} is not in this layer yet")
        if isinstance(node, Directory):
            raise FormatError("tar.hardlink_directory", f"{path[:80]!r} is a directory")
        node.has_names = True
        return node


def walk_directories(
    root: Directory, below: MergedDirectory
) -> Iterator[tuple[bytes, Directory, MergedDirectory | None]]:
    """Yield each directory of a layer, parents first: path, and what the layers below show there.

    That is None if they show nothing, or the layer hides it. Paths are built one at a time: those
    of all children of a directory at once could take 65 536 times 4 KiB.
    """
    yield b"", root, below
    levels = [(b"", iter(root.children.items()), None if root.is_opaque else below)]
    while levels:
        prefix, children, merged = levels[-1]
        for name, node in children:
            if isinstance(node, Directory):
                path, under = prefix + name, merged and merged.children.get(name)
                yield path, node, under
                under = None if node.is_opaque else under
                levels.append((path + b"/", iter(node.children.items()), under))
                break
        else:
            levels.pop()


def _describe(directory: Directory, attributes: Attributes) -> None:
    if directory.attributes.xattrs and not directory.is_implied:
        # mkfs.erofs would keep the first entry's attributes beside the second's.
        raise FormatError("tar.duplicate_xattr", "a directory with xattrs is described twice")
    directory.attributes = attributes
    directory.is_implied = False
