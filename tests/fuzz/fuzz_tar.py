"""Invariant: an archive, whatever its bytes, is refused with a `FormatError` or passes; one that
passes has the entries that Python's own reader finds, and is completed to an archive that passes
again with the same listing and needs nothing more.

Run as `python -m tests.fuzz.fuzz_tar [SECONDS [SEED]]`.
"""

import io
import os
import random
import tarfile
import tempfile

from ccinit.errors import FormatError
from ccinit.formats.oci.tar_entry import TarEntry, TarKind
from ccinit.pull.layers.tar_reader import TarReader
from ccinit.pull.layers.tree import TreeLimits, empty_merged_root
from tests.fakes.images.passed_layers import pass_layer
from tests.fakes.images.tars import Entry, long_name, make_tar
from tests.fuzz.trials import Trials, run

LIMITS = TreeLimits(entries=200, directory_entries=50, depth=20)
NAMES = (
    *(".", "./", "a", "a/b", "a/b/c", "..", "/", "a/../b", ".wh.a", "a/.wh..wh..opq", ".wh."),
    *("x" * 100, "é", "a//b", "a/", ".wh..wh.x", "b/.wh.c", "b"),
)
PAX = (
    ("path", b"a/long/path"),
    ("path", b""),
    ("size", b"3"),
    ("uid", b"7"),
    ("mtime", b"1700000000.5"),
    ("SCHILY.xattr.user.a", b"\0\n="),
    ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
    ("GNU.sparse.major", b"1"),
    ("comment", b"x"),
)
LONG = (
    *(long_name(b"L", b"a/" + b"n" * 200 + b"\0"), long_name(b"K", b"b\0"), long_name(b"L", b"a")),
    *(long_name(b"L", b"a/b\0c\0"), long_name(b"K", b"k" * 300 + b"\0")),
)
TYPES = {
    TarKind.FILE: tarfile.REGTYPE,
    TarKind.HARD_LINK: tarfile.LNKTYPE,
    TarKind.SYMLINK: tarfile.SYMTYPE,
    TarKind.CHARACTER_DEVICE: tarfile.CHRTYPE,
    TarKind.BLOCK_DEVICE: tarfile.BLKTYPE,
    TarKind.DIRECTORY: tarfile.DIRTYPE,
    TarKind.FIFO: tarfile.FIFOTYPE,
}


def our_entries(data: bytes) -> list[tuple[object, ...]]:
    """Return what our reader finds in an archive that passes."""
    found: list[TarEntry] = []
    reader = TarReader(found.append)
    reader.feed(memoryview(data))
    reader.finish()
    return [
        (
            *(one.path, TYPES[one.kind], one.mode, one.uid, one.gid, one.size, one.mtime),
            *(one.link, one.offset, one.xattrs),
        )
        for one in found
    ]


def other_entries(data: bytes) -> list[tuple[object, ...]]:
    """Return what `tarfile` finds in it."""
    whole = io.BytesIO(data + bytes(1024))  # an end is not asked for by ours
    with tarfile.open(fileobj=whole, mode="r:", encoding="utf-8") as archive:
        return [
            (
                plain(one.name),
                *(tarfile.REGTYPE if one.type == tarfile.AREGTYPE else one.type, one.mode & 0o7777),
                *(one.uid, one.gid, one.size, int(one.mtime), link_of(one), one.offset_data),
                xattrs_of(one),
            )
            for one in archive
        ]


def plain(name: str) -> bytes:
    path = os.fsencode(name).rstrip(b"/").removeprefix(b"./")
    return b"" if path == b"." else path


def link_of(member: tarfile.TarInfo) -> bytes:
    if member.type == tarfile.LNKTYPE:
        return plain(member.linkname.lstrip("/"))
    return os.fsencode(member.linkname) if member.issym() else b""


def xattrs_of(member: tarfile.TarInfo) -> tuple[tuple[bytes, bytes], ...]:
    start = "SCHILY.xattr."
    return tuple(
        sorted(
            (os.fsencode(key.removeprefix(start)), os.fsencode(value))
            for key, value in member.pax_headers.items()
            if key.startswith(start)
        )
    )


def check(data: bytes) -> bool:
    """Check the invariant; return whether the archive passed."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        fd = file.fileno()
        try:
            first = pass_layer(fd, empty_merged_root(), LIMITS)
        except FormatError:
            return False
        assert our_entries(data) == other_entries(data)
        assert first.records <= LIMITS.entries * LIMITS.depth
        assert os.fstat(fd).st_size % 512 == 0
        # What was completed describes every directory: it needs nothing more and means the same.
        size = os.fstat(fd).st_size
        assert pass_layer(fd, empty_merged_root(), TreeLimits()) == first
        assert os.fstat(fd).st_size == size
    return True


def make_archive(source: random.Random) -> bytes:
    """Return an archive of odd entries, most of them well-formed."""
    entries = [
        Entry(
            source.choice(NAMES),
            source.choice((b"", b"x", b"y" * 600, None)),
            kind=source.choice((b"", b"", b"", b"1", b"2", b"3", b"6", b"7")),
            link=source.choice(NAMES),
            mode=source.choice((0, 0o644, 0o4755, 0o1777, 0o100644)),
            pax=tuple(source.sample(PAX, source.randrange(3))) if source.random() < 0.3 else (),
            before=source.choice(LONG) if source.random() < 0.1 else b"",
            owner=(source.choice((0, 0, 7, 0o7777777)), 0),
        )
        for _ in range(source.randrange(1, 5))
    ]
    return make_tar(*entries)


def mutate(source: random.Random, data: bytes) -> bytes:
    """Return the archive with bits flipped, a block moved, doubled or cut."""
    archive = bytearray(data)
    spot = source.randrange(len(archive))
    block = spot // 512 * 512
    match source.randrange(7):
        case 0 | 1:
            return data
        case 2:
            archive[spot] ^= 1 << source.randrange(8)
        case 3:  # in a field that is used, under a sum that is right
            block = source.choice([at for at in range(0, len(archive), 512) if archive[at]])
            used = [at for at in range(block, block + 512) if archive[at]]
            archive[source.choice(used)] ^= 1 << source.randrange(8)
            archive[block + 148 : block + 156] = b" " * 8
            archive[block + 148 : block + 156] = b"%06o\0 " % sum(archive[block : block + 512])
        case 4:
            del archive[spot:]
        case 5:
            archive[block:block] = archive[block : block + 512]
        case _:
            archive[block : block + 512] = bytes(512)
    return bytes(archive)


def main(seconds: float, seed: int) -> int:
    """Check archives for a while; return how many."""
    trials, passed = Trials(seconds, seed), 0
    for source in trials:
        passed += check(mutate(source, make_archive(source)))
    assert passed
    return trials.count


if __name__ == "__main__":
    run(main)
