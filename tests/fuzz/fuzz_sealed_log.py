"""Invariant: a stream, whatever its bytes, yields a result and never an exception; what was read
before the first fatal finding is what the guest wrote, and a changed stream has a finding. What is
called signed comes first, and before a signature.

Also: every plaintext parser's failure is a `FormatError`, and what it accepts encodes to an equal
record. Run as `python -m tests.fuzz.fuzz_sealed_log [SECONDS [SEED]]`.
"""

import random
from dataclasses import replace

from ccinit.errors import FormatError
from ccinit.formats.sealed_log import (
    HEADER_BYTES,
    SizeClass,
    encode_plaintext,
    parse_head,
    parse_header,
    parse_plaintext,
)
from guest_owner.sealed_log.key import LogKey
from tests.fakes.documents.unsealed_log import unseal
from tests.fuzz.trials import Trials, run
from tests.vectors.sealed_log import make_vectors

KEY = LogKey(make_vectors.OWNER_SEED)
GOOD = make_vectors.make_stream()
ENTRIES = unseal(GOOD, KEY, psk=make_vectors.SHARED_KEY).entries


def check_stream(stream: bytes) -> None:
    """Check the first invariant."""
    result = unseal(stream, KEY, psk=make_vectors.SHARED_KEY)
    signed = [entry for entry in result.entries if entry.is_signed]
    behind = [replace(entry, is_signed=True) for entry in result.entries[len(signed) :]]
    assert (*signed, *behind) == ENTRIES[: len(result.entries)]
    assert all(entry.index < result.signed for entry in signed)
    assert bool(result.findings) == (stream != GOOD)


def check_plaintext(data: bytes) -> None:
    """Check the second invariant, for each parser."""
    for parse in (parse_header, parse_head):
        try:
            parse(data)
        except FormatError:
            continue
    try:
        record = parse_plaintext(data)
    except FormatError:
        return
    assert parse_plaintext(encode_plaintext(record, SizeClass.LARGE)) == record


def mutate_stream(source: random.Random) -> bytes:
    """Return the good stream with something flipped, cut, moved, doubled or put in."""
    stream = bytearray(GOOD)
    # mostly in front, where the small records and all kinds are
    spot = source.choice((source.randrange(len(stream)), HEADER_BYTES + source.randrange(4096)))
    match source.randrange(5):
        case 0:
            stream[spot] ^= 1 << source.randrange(8)
        case 1:
            del stream[spot:]
        case 2:
            del stream[spot : spot + source.choice((1, 9, 512, 1024, 4096))]
        case 3:
            size = source.choice((1, 9, 512, 4096))
            stream[spot:spot] = stream[spot : spot + size]
        case _:
            stream[spot:spot] = source.randbytes(source.randrange(1, 32))
    return bytes(stream)


def mutate_plaintext(source: random.Random) -> bytes:
    """Return something that begins like a record's plaintext."""
    start = source.choice((b"\x95\x01\x03\xa3web\x00\xc4\x02hi", b"\x95", b"CCLOG1\0\1", b""))
    noise = source.randbytes(source.randrange(40))
    return start[: source.randrange(len(start) + 1)] + noise + bytes(source.randrange(40))


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    check_stream(GOOD)
    trials = Trials(seconds, seed)
    for source in trials:
        check_stream(mutate_stream(source))
        for _ in range(20):
            check_plaintext(mutate_plaintext(source))
    return trials.count


if __name__ == "__main__":
    run(main)
