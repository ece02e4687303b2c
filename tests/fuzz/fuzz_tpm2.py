"""Invariant: any bytes given to a TPM parser are a value or a `FormatError` with a `tpm2.` reason,
and never anything else; what is accepted after a change is not the value from before the change,
where a parser keeps all that it reads.

Run as `python -m tests.fuzz.fuzz_tpm2 [SECONDS [SEED]]`.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path

from ccinit.errors import FormatError
from ccinit.formats.tcg.tpm2 import (
    parse_pcr_extend,
    parse_pcr_read,
    parse_quote,
    parse_read_public,
    parse_tpms_attest,
    parse_tpmt_public,
    parse_tpmt_signature,
)
from tests.fuzz.trials import Trials, run

REPLIES = [
    bytes.fromhex(reply)
    for _command, reply in json.loads(Path("tests/vectors/tpm2/transcript.json").read_text())
]
PARSERS: tuple[Callable[[bytes], object], ...] = (
    parse_pcr_read,
    parse_pcr_extend,
    parse_quote,
    parse_read_public,
    parse_tpms_attest,
    parse_tpmt_public,
    parse_tpmt_signature,
)
PASSING_OVER = (parse_pcr_read, parse_read_public, parse_tpms_attest)
"""They read what nobody judges, too: a counter of updates, a name, clock and firmware version."""


def parse_or_refuse(parse: Callable[[bytes], object], data: bytes) -> object:
    """Return the value, or None for a refusal of the right family."""
    try:
        return parse(data) or "accepted"
    except FormatError as error:
        refused = error
    assert refused.reason.startswith("tpm2."), refused
    return None


def seeds() -> list[bytes]:
    """Whole replies, and the structures inside them."""
    quote = parse_quote(REPLIES[-1])
    area = REPLIES[3][12 : 12 + int.from_bytes(REPLIES[3][10:12], "big")]
    return [*REPLIES, quote.message, quote.signature, area]


def mutate(source: random.Random, seed: bytes) -> bytes:
    """Change, cut or lengthen; half of the time the header's length is made to fit."""
    data = bytearray(seed)
    for _ in range(source.randrange(1, 4)):
        spot = source.randrange(len(data) + 1)
        match source.randrange(4):
            case 0:
                del data[spot:]
            case 1:
                data[spot:spot] = source.randbytes(source.randrange(1, 9))
            case 2:
                data[spot : spot + 2] = source.choice((b"\0\0", b"\xff\xff", b"\0\x01"))
            case _:
                data[spot : spot + 1] = source.randbytes(1)
    if source.random() < 0.5 and len(data) >= 10:
        data[2:6] = len(data).to_bytes(4, "big")
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    known = seeds()
    trials = Trials(seconds, seed)
    for source in trials:
        original = source.choice(known)
        changed = mutate(source, original)
        for parse in PARSERS:
            value = parse_or_refuse(parse, changed)
            # PCR_Extend's reply carries nothing, and a tag or reserved byte may carry nothing too
            if value is not None and changed != original and value != "accepted":
                before = parse_or_refuse(parse, original)
                assert value != before or parse in PASSING_OVER, changed.hex()
    return trials.count


if __name__ == "__main__":
    run(main)
