"""Invariant: any header of LUKS2, its checksums made good, is refused with a reason of its parser,
or differs from the one accepted shape in nothing but salts, counts, digest and names, as a plain
JSON reader sees it.

Run as `python -m tests.fuzz.fuzz_luks2 [SECONDS [SEED]]`.
"""

import json
import random
from typing import Any

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.disk.luks2 import COPY_BYTES, MAX_ITERATIONS, MIN_ITERATIONS, parse_luks2_header
from tests.fakes.machine.luks2 import make_copy, make_metadata
from tests.fuzz.trials import Trials, run

TEXT = json.dumps(make_metadata(), separators=(",", ":")).encode()
_WORDS = (
    *(b"cipher_null-ecb", b'"1":{}', b'"flags":[]', b'"requirements":{}', b"reencrypt"),
    *(b"argon2id", b"2147483648", b"-1", b"true", b"null", b"[]", b"{}", b'"', b"\0", b"\\u0000"),
)
_FREE = {"salt", "iterations", "digest"}


def constants_of(metadata: Any) -> object:
    """The metadata without what a header may choose."""
    for place in (metadata["keyslots"]["0"]["kdf"], metadata["digests"]["0"]):
        assert MIN_ITERATIONS <= place["iterations"] <= MAX_ITERATIONS
        for name in _FREE & set(place):
            place[name] = None
    return metadata


def fields_of(copy: bytes) -> bytes:
    """The binary part without sequence number, salt, UUID and checksum."""
    return copy[:16] + copy[24:104] + copy[208:448] + copy[480:4096]


def check(first: bytes, second: bytes, text: bytes) -> None:
    """Let the parser refuse a header, or hold what it accepted against the shape."""
    reason = ""
    try:
        parse_luks2_header((first + second).ljust(COPY_BYTES, b"\0"))
    except (FormatError, VerificationError) as error:
        reason = error.reason
    if reason:
        assert reason.startswith("luks2"), reason
        return
    assert constants_of(json.loads(text.partition(b"\0")[0])) == constants_of(make_metadata())
    assert fields_of(first) == fields_of(make_copy(0, TEXT))
    assert fields_of(second) == fields_of(make_copy(1, TEXT))


def mutate(source: random.Random, text: bytes) -> bytes:
    """Replace, insert or cut; what is put in is often what an attacker would."""
    data = bytearray(text)
    for _ in range(source.randrange(1, 3)):
        spot = source.randrange(len(data) + 1)
        match source.randrange(4):
            case 0:
                data[spot : spot + source.randrange(20)] = source.choice(_WORDS)
            case 1:
                del data[spot : spot + source.randrange(8)]
            case _:
                data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    parse_luks2_header((make_copy(0, TEXT) + make_copy(1, TEXT)).ljust(COPY_BYTES, b"\0"))
    trials = Trials(seconds, seed)
    for source in trials:
        text = mutate(source, TEXT)
        check(make_copy(0, text), make_copy(1, text), text)
        binary = {source.randrange(512): source.randbytes(source.randrange(1, 9))}
        check(make_copy(0, TEXT, binary), make_copy(1, TEXT, binary), TEXT)
    return trials.count


if __name__ == "__main__":
    run(main)
