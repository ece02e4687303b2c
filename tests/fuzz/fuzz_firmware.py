"""Invariant: any bytes given as firmware are a value or an error with a reason of that reader; what
is accepted for SEV-SNP or TDX gives another measurement as soon as one measured byte differs.

Run as `python -m tests.fuzz.fuzz_firmware [SECONDS [SEED]]`.
"""

import random
import struct
import sys
import time

from ccinit.errors import CcinitError
from measured_boot.sev.cpu_models import find_signature
from measured_boot.sev.firmware import parse_sev_firmware
from measured_boot.sev.kernel_hashes import hash_kernel_files
from measured_boot.sev.launch import Processors, snp_launch_digest
from measured_boot.tdx.build_measurement import measure_build
from measured_boot.tdx.firmware import parse_tdx_sections
from tests.fakes.firmware import (
    SEV_LIST_OFFSET,
    TDX_LIST_OFFSET,
    TDX_SECTIONS,
    FakeFirmware,
    tdx_list,
)

GOOD = FakeFirmware(lists={TDX_LIST_OFFSET: tdx_list(TDX_SECTIONS)}).to_bytes()
TABLE = len(GOOD) - 32 - 160
SPECIAL = (0, 1, 0x10, 0xFF, 0xFFF, 0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 0xFFFFFFFF)
REASONS = ("firmware.", "launch.")
PROCESSORS = Processors(count=2, signature=find_signature("EPYC-Milan"))
HASHES = hash_kernel_files(b"kernel", b"initrd", "quiet")


def mutate(source: random.Random, seed: bytes) -> bytes:
    """Put special numbers into table and lists, cut or add pages, or change bytes."""
    data = bytearray(seed)
    for _ in range(source.randrange(1, 4)):
        match source.randrange(5):
            case 0:
                del data[: 4096 * source.randrange(1, 3)]
            case 1:
                data[0:0] = bytes(4096)
            case 2 | 3:
                area = source.choice((SEV_LIST_OFFSET, TDX_LIST_OFFSET, TABLE))
                spot = max(0, min(len(data) - 4, area + 2 * source.randrange(100)))
                data[spot : spot + 4] = struct.pack("<I", source.choice(SPECIAL))
            case _:
                spot = source.randrange(max(1, len(data)))
                data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def measure_or_refuse(data: bytes) -> tuple[bytes | None, bytes | None]:
    """Return launch digest and MRTD, each None for a refusal of the right family."""
    found: list[bytes | None] = []
    for measure in (_measure_snp, _measure_tdx):
        try:
            found.append(measure(data))
        except CcinitError as error:
            assert error.reason.startswith(REASONS), error  # noqa: PT017
            found.append(None)
    return found[0], found[1]


def _measure_snp(data: bytes) -> bytes:
    return snp_launch_digest(parse_sev_firmware(data), PROCESSORS, HASHES)


def _measure_tdx(data: bytes) -> bytes:
    return measure_build(parse_tdx_sections(data))


def main(seconds: int = 10, seed: int = 0) -> int:
    """Check mutations for a while; return how many."""
    source = random.Random(seed)  # noqa: S311  # mutations, not keys
    end, count = time.monotonic() + seconds, 0
    snp, tdx = measure_or_refuse(GOOD)
    assert None not in (snp, tdx)
    while time.monotonic() < end:
        measure_or_refuse(mutate(source, GOOD))
        flipped = bytearray(GOOD)
        spot = source.randrange(len(flipped))
        flipped[spot] ^= 1 << source.randrange(8)
        other_snp, other_tdx = measure_or_refuse(bytes(flipped))
        assert other_snp != snp, spot
        if 0x1000 <= spot < 0x4000:  # the section of code, which is measured
            assert other_tdx != tdx, spot
        count += 1
    return count


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:3])))
