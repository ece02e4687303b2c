"""The job that walks mounted layers and says what the kernel shows of them.

An erofs index is made by another program from a tar that an image's author wrote. Before anything
runs, the mounted tree is listed in the form of `listing` and must give the digest that our pass
over the tar gave. For the content of files the walk asks where it lies (FS_IOC_FIEMAP): in the tar,
at the offset that the pass saw, in one piece; the bytes themselves are covered by the diff_id. Of a
compressed layer, which has no tar, the content is read and hashed. Whoever walks for a part of the
listing only passes through the other directories, for what is below them, and for first names.

The job needs to read every directory and `trusted.*` attributes (CAP_DAC_READ_SEARCH,
CAP_SYS_ADMIN), and nothing else; whoever spawns it gives it a system call filter without the calls
that would make more of these rights. It starts in the layer's root and follows no link.
"""

import fcntl
import hashlib
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ccinit.errors import FormatError, LimitExceededError, VerificationError
from ccinit.formats.encoding.digest import Digest
from ccinit.kernel.libc import kernel_error
from ccinit.pull.layers.listing import Content, Listing, Xattrs, attributes_of, part_of
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.tree import LISTING_PARTS, TreeDigests, TreeRequest
from ccinit.values import frozen

MAX_RECORDS = 1_000_000

_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP = struct.Struct("=QQIIII")  # start, length, flags, mapped, count, reserved
_EXTENT = struct.Struct("=QQQQQIIII")  # logical, physical, length, 2 reserved, flags, 3 reserved
_MAX_EXTENTS = 2
_ASK = _FIEMAP.pack(0, 0xFFFF_FFFF_FFFF_FFFF, 0, 0, _MAX_EXTENTS, 0)
_NO_EXTENTS = bytes(_MAX_EXTENTS * _EXTENT.size)
_CHUNK_BYTES = 1 << 20
_NANOSECONDS = 1_000_000_000


def tree_job(request: TreeRequest, _channel: object) -> TreeDigests:
    """List each mounted layer.

    Raises:
        FormatError: `tree.…`: something is there that no layer may hold.
        KernelError: the tree cannot be read.
    """
    listings = (list_tree(root, request.form, request.parts) for root in request.roots)
    return TreeDigests(listings=tuple(listings))


def list_tree(
    root: str, form: LayerForm = LayerForm.INDEX, parts: Sequence[int] = range(LISTING_PARTS)
) -> tuple[Digest, ...]:
    """Return the digests of these parts of the canonical listing of the mounted layer at `root`."""
    directory = -1
    try:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        # Relative paths from here stay below PATH_MAX, as they did in the tar.
        os.fchdir(directory)
        digests = _Walk(os.fstat(directory).st_dev, form, parts).digests()
        return tuple(digests[part] for part in parts)
    except OSError as error:
        raise kernel_error(error, "walk", root) from error
    finally:
        if directory >= 0:
            os.close(directory)


@frozen
class _Level:
    """A directory on the way down.

    Attributes:
        prefix: what goes before its names in a path.
        names: those still to come, in order.
        inodes: by name if its records are not wanted, None for a directory's.
    """

    prefix: bytes
    names: Iterator[bytes]
    inodes: Mapping[bytes, int | None] | None = None


class _Walk:
    """One walk of the tree below the working directory."""

    def __init__(self, device: int, form: LayerForm, parts: Sequence[int]) -> None:
        self._device = device
        self._form = form
        self._parts = parts
        self._listing = Listing()
        # Where an inode was first seen, as prefix and name: whole paths could take too much.
        self._first: dict[int, tuple[bytes, bytes]] = {}
        self._digests: dict[int, Digest] = {}

    def digests(self) -> tuple[Digest, ...]:
        if part_of(b"") in self._parts:
            self._record(b"", b"")
        levels = [self._enter(b"")]
        while levels:
            level = levels[-1]
            for name in level.names:  # a path is made when its turn comes
                if self._visit(level, name):
                    levels.append(self._enter(level.prefix + name))
                    break
            else:
                levels.pop()
        return self._listing.digests()

    def _enter(self, path: bytes) -> _Level:
        prefix, target = path + b"/" if path else b"", path or b"."
        if part_of(path) in self._parts:
            return _Level(prefix=prefix, names=_in_order(os.listdir(target)))
        with os.scandir(target) as entries:
            inodes = {
                entry.name: None if entry.is_dir(follow_symlinks=False) else entry.inode()
                for entry in entries
            }
        return _Level(prefix=prefix, names=_in_order(inodes), inodes=inodes)

    def _visit(self, level: _Level, name: bytes) -> bool:
        """List this name, or pass it by; return whether it is a directory's."""
        if level.inodes is None:
            return self._record(level.prefix, name)
        inode = level.inodes[name]
        if inode is not None:
            self._first.setdefault(inode, (level.prefix, name))
        return inode is None

    def _record(self, prefix: bytes, name: bytes) -> bool:
        """List what is at this path; return whether it is a directory."""
        path = prefix + name
        target = path or b"."
        status = os.lstat(target)
        if status.st_dev != self._device:
            raise VerificationError("tree.device", f"{path[:80]!r} is another mount")
        if self._listing.records >= MAX_RECORDS:
            raise LimitExceededError("tree.records", f"more than {MAX_RECORDS}")
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFCHR:
            if status.st_rdev != 0:
                raise FormatError("tree.kind", f"{path[:80]!r} is a device")
            self._listing.whiteout(path)
            return False
        attributes = attributes_of(
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns // _NANOSECONDS,  # as a float it may round up
            _xattrs(target) if kind != stat.S_IFLNK else (),
        )
        if kind == stat.S_IFDIR:
            self._listing.directory(path, attributes)
            return True
        first = path
        if status.st_nlink > 1:
            first = b"".join(self._first.setdefault(status.st_ino, (prefix, name)))
        if kind == stat.S_IFLNK:
            self._listing.symlink(path, attributes, os.readlink(target), first)
        elif kind == stat.S_IFREG:
            content = self._content(target, status) if status.st_size else 0
            self._listing.file(path, attributes, status.st_size, content, first)
        else:
            raise FormatError("tree.kind", f"{path[:80]!r} is neither file, link nor directory")
        return False

    def _content(self, path: bytes, status: os.stat_result) -> Content:
        if self._form is LayerForm.INDEX:
            return _offset_in_tar(path, status.st_size)
        digest = self._digests.get(status.st_ino)
        if digest is None:
            digest = _digest(path)
            if status.st_nlink > 1:  # its other names need no second reading
                self._digests[status.st_ino] = digest
        return digest


def _in_order(names: Iterable[bytes]) -> Iterator[bytes]:
    return iter(sorted(names))


def _xattrs(path: bytes) -> Xattrs:
    names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    if not names:
        return ()
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def _digest(path: bytes) -> Digest:
    found = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while chunk := os.read(fd, _CHUNK_BYTES):
            found.update(chunk)
    finally:
        os.close(fd)
    return Digest(found.hexdigest())


def _offset_in_tar(path: bytes, size: int) -> int:
    """Where the one extent of a file begins in the layer's tar."""
    buffer = bytearray(_ASK + _NO_EXTENTS)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _FS_IOC_FIEMAP, buffer)
    finally:
        os.close(fd)
    _start, _length, _flags, mapped, *_rest = _FIEMAP.unpack_from(buffer)
    logical, physical, length, *_rest = _EXTENT.unpack_from(buffer, _FIEMAP.size)
    if mapped != 1 or logical != 0 or length < size:
        raise VerificationError("tree.extent", f"{path[:80]!r} is not one piece of the tar")
    return int(physical)
