"""Our own pass over a layer's tar on disk, after its digest has been checked.

It reads every header, applies the entries to a `LayerTree`, and completes the tar: over the end of
the archive it writes entries for the directories that the layer implies (`tar_supplement`). What
comes back says what erofs must show, which `tree` compares with what it does show. The rules are
in `formats.tar` (one header) and `layer_tree` (entries together); making the index is `index`'s.
"""

import hashlib
import os

from ccinit.errors import FormatError, LimitExceededError, VerificationError
from ccinit.formats.digest import Digest
from ccinit.formats.tar import (
    BLOCK_BYTES,
    END_OF_ARCHIVE,
    EXTENSION_TYPES,
    MAX_LONG_NAME_BYTES,
    MAX_PAX_BYTES,
    ZERO_BLOCK,
    HeaderGroup,
    TarEntry,
    TarHeader,
    TarKind,
    padded,
    parse_header,
)
from ccinit.pull.layer_tree import LayerTree, MergedDirectory, TreeLimits
from ccinit.pull.listing import Listing
from ccinit.pull.messages import PassedLayer
from ccinit.pull.tar_supplement import encode_directory

_CHUNK_BYTES = 1 << 20
_EXTENSION_LIMITS = {
    b"x": MAX_PAX_BYTES,
    b"g": MAX_PAX_BYTES,
    b"L": MAX_LONG_NAME_BYTES,
    b"K": MAX_LONG_NAME_BYTES,
}


def verify_diff_id(tar: int, expected: Digest) -> None:
    """Compare the digest of the whole file `tar` with the config's.

    Raises:
        VerificationError: `pull.diff_id`.
    """
    found = hashlib.sha256()
    offset = 0
    while chunk := os.pread(tar, _CHUNK_BYTES, offset):
        found.update(chunk)
        offset += len(chunk)
    if found.hexdigest() != expected.hex:
        raise VerificationError("pull.diff_id", f"the layer's tar is not {expected}")


def pass_layer(tar: int, below: MergedDirectory, limits: TreeLimits) -> PassedLayer:
    """Check and complete the archive `tar`, open for reading and writing.

    Args:
        tar: the archive; what it gains stands behind its last entry.
        below: the layers below, merged; this layer is laid over it.
        limits: caps on the layer.

    Raises:
        FormatError: `tar.…`, the rule it breaks.
    """
    tree = LayerTree(below, limits)
    end, file_bytes = _read_entries(tar, tree)
    supplement = [
        encode_directory(
            TarEntry(
                path=path,
                kind=TarKind.DIRECTORY,
                mode=attributes.mode,
                uid=attributes.uid,
                gid=attributes.gid,
                size=0,
                mtime=attributes.mtime,
                xattrs=attributes.xattrs,
            )
        )
        for path, attributes in tree.settle_implied()
    ]
    _complete(tar, end, b"".join((*supplement, END_OF_ARCHIVE)))
    listing = Listing()
    tree.list_into(listing)
    below.apply(tree.root)
    return PassedLayer(listing=listing.digest(), records=listing.records, file_bytes=file_bytes)


def _read_entries(tar: int, tree: LayerTree) -> tuple[int, int]:
    """Apply all entries; return where they end and the bytes of all files."""
    archive_bytes = os.fstat(tar).st_size
    group = HeaderGroup()
    offset = file_bytes = 0
    while (block := os.pread(tar, BLOCK_BYTES, offset)) not in (b"", ZERO_BLOCK):
        header = parse_header(block)
        offset += BLOCK_BYTES
        if header.type_flag in EXTENSION_TYPES:
            group.extend(header, _payload(tar, header, offset))
            size = header.size
        else:
            entry = group.entry(header, offset)
            tree.add(entry)
            size = entry.size
            file_bytes += size
        offset += padded(size)
        if offset > archive_bytes:
            raise FormatError("tar.truncated", "an entry reaches beyond the archive")
    if group.is_open:
        raise FormatError("tar.truncated", "an extended header without its entry")
    _check_end(tar, offset)
    return offset, file_bytes


def _payload(tar: int, header: TarHeader, offset: int) -> bytes:
    limit = _EXTENSION_LIMITS[header.type_flag]
    if header.size > limit:
        raise LimitExceededError("tar.extension", f"{header.size} bytes, at most {limit}")
    payload = os.pread(tar, header.size, offset)
    if len(payload) != header.size:
        raise FormatError("tar.truncated", "an extended header is cut short")
    return payload


def _check_end(tar: int, offset: int) -> None:
    """Nothing but zeros may follow the last entry: no reader may find another archive there."""
    while chunk := os.pread(tar, _CHUNK_BYTES, offset):
        if chunk.count(0) != len(chunk):
            raise FormatError("tar.trailing", "bytes behind the end of the archive")
        offset += len(chunk)


def _complete(tar: int, end: int, data: bytes) -> None:
    os.ftruncate(tar, end)
    while data:
        written = os.pwrite(tar, data, end)
        end += written
        data = data[written:]
