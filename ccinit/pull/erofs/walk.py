"""The job that walks mounted layers and reports what the kernel shows of them.

Another program makes an erofs index from a tar that an image's author wrote. Before anything runs,
the mounted tree is listed in the form of `listing`, and must give the same digest as our pass over
the tar. For the content of files, the walk asks the kernel where it lies (FS_IOC_FIEMAP): it must
be at the offset that the pass saw, in one extent. That this is in the tar and not in the index
itself, which the kernel does not tell, the walk reads from the index. The diff_id covers the bytes
of the tar. A compressed layer has no tar, so its content is read and hashed. A walker of one part
of the listing still passes through all other directories, to reach those below and to see first
names.

The job needs to read every directory and `trusted.*` attributes (CAP_DAC_READ_SEARCH,
CAP_SYS_ADMIN), and nothing else; its seccomp filter lacks the system calls that could exploit these
rights. It starts in the layer's root and follows no link. If an index gives one directory two
names, the kernel shows it below whichever was looked up last, by this walker or another: so after
each step up, the walker checks that it is where it was before.
"""

import fcntl
import hashlib
import mmap
import os
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence

from ccinit.errors import FormatError, LimitExceededError, VerificationError
from ccinit.formats.disk.erofs import parse_index_superblock, verify_in_tar
from ccinit.formats.encoding.digest import Digest
from ccinit.kernel.libc import kernel_error
from ccinit.pull.layers.listing import (
    Attributes,
    Content,
    Listing,
    ListingPart,
    Xattrs,
    attributes_of,
)
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.tree import LISTING_PARTS, TreeDigests, TreeRequest, index_of
from ccinit.values import frozen

MAX_RECORDS = 1_000_000

_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP = struct.Struct("=QQIIII")  # start, length, flags, mapped, count, reserved
_EXTENT = struct.Struct("=QQQQQIIII")  # logical, physical, length, 2 reserved, flags, 3 reserved
_MAX_EXTENTS = 2
_ASK = _FIEMAP.pack(0, 0xFFFF_FFFF_FFFF_FFFF, 0, 0, _MAX_EXTENTS, 0) + bytes(
    _MAX_EXTENTS * _EXTENT.size
)
_CHUNK_BYTES = 1 << 20
_NANOSECONDS = 1_000_000_000


def tree_job(request: TreeRequest, _channel: object) -> TreeDigests:
    """List each mounted layer.

    Raises:
        FormatError, VerificationError: `tree.…`: the tree has something that no layer may hold;
            `erofs.…`, it is not an index over a tar.
        LimitExceededError: `tree.records`.
        KernelError: the tree cannot be read.
    """
    listings = (list_tree(root, request.form, request.parts) for root in request.roots)
    return TreeDigests(listings=tuple(listings))


def list_tree(
    root: str, form: LayerForm = LayerForm.INDEX, parts: Sequence[int] = range(LISTING_PARTS)
) -> tuple[Digest, ...]:
    """Return the digests of these parts of the canonical listing of the mounted layer at `root`."""
    try:
        index = _Index(index_of(root)) if form is LayerForm.INDEX else None
        top = _enter(os.fsencode(root))
        digests = _Walk(top, index, parts).digests()
        return tuple(digests[part] for part in parts)
    except OSError as error:
        raise kernel_error(error, "walk", root) from error


@frozen(kw_only=False)
class _Level:
    """A directory on the way down.

    Attributes:
        status: of the directory itself.
        prefix: what goes before its names in a path.
        part: of the listing, which its records are in.
        names: those still to come, in order.
        inodes: by name if its records are not wanted, None for a directory's.
    """

    status: os.stat_result
    prefix: bytes
    part: ListingPart
    names: Iterator[bytes]
    inodes: Mapping[bytes, int | None] | None = None


class _Index:
    """Checks that content lies in the tar."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._bytes = memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
        finally:
            os.close(fd)
        self._start = parse_index_superblock(self._bytes)

    def verify(self, status: os.stat_result) -> None:
        verify_in_tar(self._bytes, self._start, status.st_ino, status.st_size)


class _Walk:
    """One walk of the tree below the working directory, which it changes."""

    def __init__(self, top: os.stat_result, index: _Index | None, parts: Sequence[int]) -> None:
        self._top = top
        self._index = index  # None if the layer is compressed
        self._parts = parts
        self._listing = Listing()
        # Where an inode was first seen, as prefix and name: full paths could take too much memory.
        self._first: dict[int, tuple[bytes, bytes]] = {}
        self._digests: dict[int, Digest] = {}

    def digests(self) -> tuple[Digest, ...]:
        levels = [self._read(self._top, b"")]
        if levels[0].inodes is None:
            self._record(levels[0].part, b"", b"")
        while levels:
            level = levels[-1]
            for name in level.names:  # a path is made when its turn comes
                if self._visit(level, name):
                    levels.append(self._read(_enter(name), level.prefix + name))
                    break
            else:
                levels.pop()
                if levels:
                    _return(levels[-1])
        return self._listing.digests()

    def _read(self, status: os.stat_result, path: bytes) -> _Level:
        """Read the working directory, which is at this path."""
        is_wanted = self._listing.next_part.position in self._parts
        inodes = None if is_wanted else _inodes()
        names = sorted(os.listdir(b".") if inodes is None else inodes)
        part = self._listing.enter(path, len(names))
        if self._listing.records > MAX_RECORDS:
            raise LimitExceededError("tree.records", f"more than {MAX_RECORDS}")
        return _Level(status, path + b"/" if path else b"", part, iter(names), inodes)

    def _visit(self, level: _Level, name: bytes) -> bool:
        """List this name, or skip it; return whether it is a directory."""
        if level.inodes is None:
            return self._record(level.part, level.prefix, name)
        inode = level.inodes[name]
        if inode is not None:
            self._first.setdefault(inode, (level.prefix, name))
        return inode is None

    def _record(self, part: ListingPart, prefix: bytes, name: bytes) -> bool:
        path, here = prefix + name, name or b"."
        status = os.lstat(here)
        if status.st_dev != self._top.st_dev:
            raise VerificationError("tree.device", f"{path[:80]!r} is another mount")
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFCHR:
            if status.st_rdev != 0:
                raise FormatError("tree.kind", f"{path[:80]!r} is a device")
            part.whiteout(path)
            return False
        if kind == stat.S_IFDIR:
            part.directory(path, _attributes(status, _xattrs(here)))
            return True
        first = path
        if status.st_nlink > 1:
            first = b"".join(self._first.setdefault(status.st_ino, (prefix, name)))
        if kind == stat.S_IFLNK:
            part.symlink(path, _attributes(status, ()), os.readlink(here), first)
        elif kind == stat.S_IFREG:
            fd = os.open(here, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                attributes = _attributes(status, _xattrs(fd))
                content = self._content(fd, status, path) if status.st_size else 0
            finally:
                os.close(fd)
            part.file(path, attributes, status.st_size, content, first)
        else:
            raise FormatError("tree.kind", f"{path[:80]!r} is neither file, link nor directory")
        return False

    def _content(self, fd: int, status: os.stat_result, path: bytes) -> Content:
        if self._index is not None:
            self._index.verify(status)
            return _offset_in_tar(fd, status.st_size, path)
        digest = self._digests.get(status.st_ino)
        if digest is None:
            digest = _digest(fd)
            if status.st_nlink > 1:  # its other names need no second reading
                self._digests[status.st_ino] = digest
        return digest


def _enter(directory: bytes) -> os.stat_result:
    """Enter a directory without following a link, whatever it is by now; return its status."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchdir(fd)
        return os.fstat(fd)
    finally:
        os.close(fd)


def _return(level: _Level) -> None:
    """Go back up to this directory, from one that was entered from it."""
    os.chdir(b"..")
    if not os.path.samestat(os.stat(b"."), level.status):
        raise VerificationError("tree.parent", f"below {level.prefix[:80]!r} is what has two names")


def _inodes() -> dict[bytes, int | None]:
    """Return the inodes in the working directory by name, None for a directory."""
    with os.scandir(b".") as entries:
        return {
            entry.name: None if entry.is_dir(follow_symlinks=False) else entry.inode()
            for entry in entries
        }


def _attributes(status: os.stat_result, xattrs: Xattrs) -> Attributes:
    return attributes_of(
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns // _NANOSECONDS,  # as a float it may round up
        xattrs,
    )


def _xattrs(of: int | bytes) -> Xattrs:
    """Return the extended attributes of an open file, or of a path that is not a link."""
    names = os.listxattr(of)
    if not names:
        return ()
    return tuple((name, os.getxattr(of, name)) for name in sorted(map(os.fsencode, names)))


def _digest(fd: int) -> Digest:
    found = hashlib.sha256()
    while chunk := os.read(fd, _CHUNK_BYTES):
        found.update(chunk)
    return Digest(found.hexdigest())


def _offset_in_tar(fd: int, size: int, path: bytes) -> int:
    """Return where the only extent of a file begins in the layer's tar."""
    buffer = bytearray(_ASK)
    fcntl.ioctl(fd, _FS_IOC_FIEMAP, buffer)
    _start, _length, _flags, mapped, *_rest = _FIEMAP.unpack_from(buffer)
    logical, physical, length, *_rest = _EXTENT.unpack_from(buffer, _FIEMAP.size)
    if mapped != 1 or logical != 0 or length < size:
        raise VerificationError("tree.extent", f"{path[:80]!r} is not one piece of the tar")
    return int(physical)
