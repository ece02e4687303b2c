"""Invariant: whatever an index holds, the content of a file is either refused with a reason of its
parser, or named by an inode, at the place that the kernel computes, as one chunk of the tar.

Run as `python -m tests.fuzz.fuzz_erofs [SECONDS [SEED]]`.
"""

import random

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.disk.erofs import parse_index_superblock, verify_in_tar
from tests.fuzz.trials import Trials, run
from tests.unit.ccinit.formats.disk.test_erofs import FIRST, SECOND, index

_SIZES = (1, 512, 513, 600, 1024, 1025, 1 << 40, (1 << 64) - 1)
_FIELDS = (*range(1024, 1120), *range(32 * FIRST, 32 * FIRST + 40), *range(32 * SECOND, 1684))


def number(data: bytes, offset: int, length: int) -> int:
    """The bytes there as the kernel reads them."""
    return int.from_bytes(data[offset : offset + length], "little")


def check(data: bytes, inode: int, size: int) -> None:
    """Let the parser refuse it, or read once more what it has accepted."""
    reason = ""
    try:
        verify_in_tar(data, parse_index_superblock(data), inode, size)
    except (FormatError, VerificationError) as error:
        reason = error.reason
    if reason:
        assert reason in {"erofs.superblock", "erofs.content"}, reason
        return
    place = 512 * number(data, 1024 + 40, 4) + 32 * inode
    layout, attributes, chunk_format = (number(data, place + at, 2) for at in (0, 2, 16))
    behind = place + (64 if layout % 2 else 32) + (8 + 4 * attributes if attributes else 0)
    assert layout // 2 % 8 == 4
    assert chunk_format & 32
    assert size <= 512 << chunk_format % 32
    assert number(data, (behind + 7) // 8 * 8 + 2, 2) == 1


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    trials = Trials(seconds, seed)
    for source in trials:
        data = bytearray(index())
        for _ in range(source.randrange(3)):
            data[source.choice(_FIELDS)] = source.choice(
                (0, 1, 2, 8, 9, 32, 255, source.randrange(256))
            )
        check(bytes(data), pick_inode(source), source.choice(_SIZES))
    return trials.count


def pick_inode(source: random.Random) -> int:
    """One of the two, or another number."""
    return source.choice((FIRST, SECOND, FIRST - 16, source.randrange(64), source.getrandbits(64)))


if __name__ == "__main__":
    run(main)
