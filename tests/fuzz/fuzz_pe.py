"""Invariant: any bytes given as an image are a value or a `FormatError` with a reason of that
parser, never anything else; and whoever changes a byte that firmware hashes changes the prediction.

Run as `python -m tests.fuzz.fuzz_pe [SECONDS [SEED]]`.
"""

import random
import struct

from ccinit.errors import CcinitError
from measured_boot.image.pe import parse_pe
from measured_boot.tpm.stub import predict_uki, stub_version
from tests.fakes.published.pe_images import HEADER, OPTIONAL, TABLE, FakePe, kernel_image, uki_image
from tests.fuzz.trials import Trials, run

IMAGES = (
    uki_image(),
    kernel_image(),
    FakePe(sections={".text": b"code"}, certificates=b"certificate").to_bytes(),
)
FIELDS = (60, HEADER + 4, HEADER + 6, HEADER + 20, OPTIONAL + 60, OPTIONAL + 108, OPTIONAL + 144)
SPECIAL = (0, 1, 40, 0x7F, 0xFF, 0x200, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PE_REASONS = ("pe.", "stub.")


def mutate(source: random.Random, seed: bytes) -> bytes:
    """Put special numbers into fields, cut, insert, or change bytes."""
    data = bytearray(seed)
    for _ in range(source.randrange(1, 4)):
        match source.randrange(5):
            case 0:
                del data[source.randrange(len(data) + 1) :]
            case 1:
                spot = source.randrange(len(data) + 1)
                data[spot:spot] = source.randbytes(source.randrange(1, 9))
            case 2 | 3:
                row = TABLE + 40 * source.randrange(8) + 4 * source.randrange(2, 6)
                spot = source.choice((*FIELDS, row, source.randrange(max(1, len(data)))))
                data[spot : spot + 4] = struct.pack("<I", source.choice(SPECIAL))
            case _:
                spot = source.randrange(len(data) + 1)
                data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def check_image(data: bytes) -> bytes | None:
    """Return the hash, or None for a refusal of the right family."""
    try:
        image = parse_pe(data)
        digest = image.authenticode()
    except CcinitError as error:
        refused = error
    else:
        try:
            stub_version(image)
            predict_uki(image)
        except CcinitError as error:
            assert error.reason.startswith(PE_REASONS), error  # noqa: PT017
        return digest
    assert refused.reason.startswith("pe."), refused
    return None


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    trials = Trials(seconds, seed)
    for source in trials:
        original = source.choice(IMAGES)
        check_image(mutate(source, original))
        flipped = bytearray(original)
        spot = source.randrange(len(flipped))
        flipped[spot] ^= 1 << source.randrange(8)
        if not OPTIONAL + 64 <= spot < OPTIONAL + 68 and not is_certificate(original, spot):
            assert check_image(bytes(flipped)) != check_image(original), spot
    return trials.count


def is_certificate(data: bytes, spot: int) -> bool:
    """Whether no hash covers this byte: a certificate, or the entry that says where they are."""
    size = parse_pe(data).certificates_size
    entry = OPTIONAL + 112 + 32
    return spot >= len(data) - size or entry <= spot < entry + 8


if __name__ == "__main__":
    run(main)
