"""Invariant: any bytes given as an ELF file are a value or a `FormatError` with a reason of that
parser, never anything else; what is mapped of a file is in it, and stays when it is stripped.

Run as `python -m tests.fuzz.fuzz_elf [SECONDS [SEED]]`.
"""

import random

from ccinit.errors import FormatError
from rootfs_builder.elf import ElfFile, parse_elf, strip_unloaded
from tests.fuzz.trials import Trials, run
from tests.unit.rootfs_builder.elf_files import HEADER_BYTES, SEGMENT_BYTES, elf

SEEDS = (elf(), elf(interpreter=b""), elf(needed=False))
NUMBERS = (b"\0" * 8, b"\x01\0\0\0", b"\x02\0\0\0", b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\xff\xff")
TABLES_BYTES = HEADER_BYTES + 3 * SEGMENT_BYTES


def mutate(source: random.Random, seed: bytes) -> bytes:
    """Change numbers, mostly of the header or of a segment, or cut the file."""
    data = bytearray(seed)
    for _ in range(source.randrange(1, 4)):
        spot = source.randrange(min(len(data), source.choice((TABLES_BYTES, 1 << 20))))
        number = source.choice(NUMBERS)
        match source.randrange(8):
            case 0:
                del data[max(spot, 1) :]
            case 1:
                data[spot] = source.randrange(256)
            case _:
                spot = spot // 2 * 2
                data[spot : spot + len(number)] = number
    return bytes(data)


def parse_or_refuse(data: bytes) -> ElfFile | None:
    try:
        return parse_elf(data)
    except FormatError as error:
        refused = error
    assert refused.reason.startswith("elf."), refused
    return None


def check(data: bytes) -> bool:
    """Check the invariant; return whether the file was read."""
    parsed = parse_or_refuse(data)
    if parsed is None:
        return False
    end = max((part.offset + part.size for part in parsed.loaded), default=0)
    assert end <= len(data)
    stripped = strip_unloaded(data)
    assert stripped[HEADER_BYTES:] == data[HEADER_BYTES:end]
    return True


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    assert all(map(check, SEEDS))
    trials, read = Trials(seconds, seed), 0
    for source in trials:
        read += check(mutate(source, source.choice(SEEDS)))
    trials.require(read, one_in=20)
    return trials.count


if __name__ == "__main__":
    run(main)
