"""Invariant: any bytes given as firmware are a value or an error with a reason of that reader; what
is accepted for SEV-SNP or TDX gives another measurement as soon as one measured byte differs. The
same holds for an SVSM.

Run as `python -m tests.fuzz.fuzz_firmware [SECONDS [SEED]]`.
"""

import random
import struct
from collections.abc import Callable

from ccinit.errors import CcinitError
from measured_boot.sev.cpu_models import find_signature
from measured_boot.sev.firmware import parse_sev_firmware
from measured_boot.sev.kernel_hashes import hash_kernel_files
from measured_boot.sev.launch import Processors, snp_launch_digest
from measured_boot.sev.svsm import parse_svsm, svsm_launch_digest
from measured_boot.tdx.build_measurement import measure_build
from measured_boot.tdx.firmware import parse_tdx_sections
from tests.fakes.platforms.firmware import (
    SEV_LIST_OFFSET,
    TDX_LIST_OFFSET,
    TDX_SECTIONS,
    FakeFirmware,
    fake_svsm,
    tdx_list,
)
from tests.fuzz.trials import Trials, run

GOOD = FakeFirmware(lists={TDX_LIST_OFFSET: tdx_list(TDX_SECTIONS)}).to_bytes()
TABLE = len(GOOD) - 32 - 160
SPECIAL = (0, 1, 0x10, 0xFF, 0xFFF, 0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 0xFFFFFFFF)
SVSM = fake_svsm(len(GOOD))  # its table lies where that of firmware does
REASONS = ("firmware.", "launch.", "svsm.")
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


def measure_or_refuse(measure: Callable[[bytes], bytes], data: bytes) -> bytes | None:
    """Return a measurement, or None for a refusal of the right family."""
    try:
        return measure(data)
    except CcinitError as error:
        assert error.reason.startswith(REASONS), error  # noqa: PT017
        return None


def _measure_snp(data: bytes) -> bytes:
    return snp_launch_digest(parse_sev_firmware(data), PROCESSORS, HASHES)


def _measure_svsm(data: bytes) -> bytes:
    firmware = parse_sev_firmware(GOOD)
    return svsm_launch_digest(firmware, parse_svsm(data), PROCESSORS, 0x1000)


def _measure_tdx(data: bytes) -> bytes:
    return measure_build(parse_tdx_sections(data))


MEASURED = ((_measure_snp, GOOD), (_measure_svsm, SVSM), (_measure_tdx, GOOD))


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    trials = Trials(seconds, seed)
    good = [(measure, data, measure(data)) for measure, data in MEASURED]
    for source in trials:
        for measure, data, measurement in good:
            measure_or_refuse(measure, mutate(source, data))
            flipped = bytearray(data)
            spot = source.randrange(len(flipped))
            flipped[spot] ^= 1 << source.randrange(8)
            if measure is not _measure_tdx or 0x1000 <= spot < 0x4000:  # its section of code
                assert measure_or_refuse(measure, bytes(flipped)) != measurement, spot
    return trials.count


if __name__ == "__main__":
    run(main)
