"""Invariant: an archive, whatever its bytes, is refused with a `FormatError` or passes; one that
passes is completed to an archive that passes again with the same listing and needs nothing more.

Run as `python -m tests.fuzz.fuzz_tar [SECONDS [SEED]]`.
"""

import os
import random
import tempfile

from ccinit.errors import FormatError
from ccinit.pull.layers.tar_pass import pass_layer
from ccinit.pull.layers.tree import TreeLimits, empty_merged_root
from tests.fakes.tars import Entry, make_tar
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
            pax=(source.choice(PAX),) if source.random() < 0.2 else (),
        )
        for _ in range(source.randrange(1, 5))
    ]
    return make_tar(*entries)


def mutate(source: random.Random, data: bytes) -> bytes:
    """Return the archive with bits flipped, a block moved, doubled or cut."""
    archive = bytearray(data)
    spot = source.randrange(len(archive))
    block = spot // 512 * 512
    match source.randrange(6):
        case 0 | 1:
            return data
        case 2:
            archive[spot] ^= 1 << source.randrange(8)
        case 3:
            del archive[spot:]
        case 4:
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
