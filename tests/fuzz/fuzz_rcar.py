"""Invariant: any bytes given to an RCAR parser are a message or a `FormatError`, and never anything
else; an accepted message, encoded and parsed again, is equal.

Run as `python -m tests.fuzz.fuzz_rcar [SECONDS [SEED]]`.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path

from ccinit.attest.refusal import refusal
from ccinit.errors import FormatError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.rcar import (
    encode_attestation,
    encode_challenge,
    encode_error_information,
    encode_request,
    encode_token_reply,
    parse_attestation,
    parse_challenge,
    parse_error_information,
    parse_request,
    parse_token_reply,
)
from tests.fuzz.mutation import mutate_json
from tests.fuzz.trials import Trials, run

VECTORS = json.loads(Path("tests/vectors/rcar/messages.json").read_text())
MESSAGES = tuple(
    VECTORS[name].encode() for name in ("request", "challenge", "attestation", "token", "error")
)
NOISE = (
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\ud800",
    b"\\u0000",
    b"1e999",
    b"NaN",
    b"\xff",
)


def check_pair(data: bytes, parse_and_encode: Callable[[bytes], bytes]) -> None:
    """Check the invariant for one kind of message."""
    try:
        once = parse_and_encode(data)
    except FormatError:
        return
    assert parse_and_encode(once) == once


def check(data: bytes) -> None:
    """Check the invariant for every kind of message, and that any body is a refusal."""
    check_pair(data, lambda raw: encode_request(parse_request(raw)))
    check_pair(data, lambda raw: encode_challenge(parse_challenge(raw, Tee.TPM)))
    check_pair(data, lambda raw: encode_attestation(parse_attestation(raw, Tee.TPM)))
    check_pair(data, lambda raw: encode_token_reply(parse_token_reply(raw)))
    check_pair(data, lambda raw: encode_error_information(parse_error_information(raw)))
    assert refusal(401, data).reason.startswith("kbs.")


def mutate(source: random.Random) -> bytes:
    """Return a message with a few changes."""
    data = bytearray(source.choice(MESSAGES))
    for _ in range(source.randrange(1, 4)):
        spot = source.randrange(len(data) + 1)
        match source.randrange(4):
            case 0:
                data[spot:spot] = source.choice(NOISE)
            case 1:
                del data[spot : spot + source.randrange(1, 40)]
            case 2:
                data[spot : spot + 1] = source.randbytes(1)
            case _:
                other = source.choice(MESSAGES)
                start = source.randrange(len(other))
                data[spot:spot] = other[start : start + source.randrange(60)]
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    for message in MESSAGES:
        check(message)
    trials = Trials(seconds, seed)
    for source in trials:
        check(mutate(source))
        check(mutate_json(source, source.choice(MESSAGES), NOISE))
    return trials.count


if __name__ == "__main__":
    run(main)
