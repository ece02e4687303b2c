"""Invariant: any bytes given as an event log are a value or a `FormatError` with a reason of that
format; what is accepted has records that are read again as the same events, and any changed digest
changes the replay of its register.

Run as `python -m tests.fuzz.fuzz_event_log [SECONDS [SEED]]`.
"""

import random
import struct

from ccinit.errors import FormatError
from ccinit.formats.tcg.aael import AaelEvent, parse_aael_event
from ccinit.formats.tcg.event_log import (
    END_OF_RECORDS,
    Algorithm,
    EventLog,
    encode_event,
    encode_header,
    parse_event_log,
)
from tests.fakes.platforms.event_logs import SHA1, SHA256, SHA384, log_event, log_header
from tests.fuzz.trials import Trials, run

_SHA384 = Algorithm.SHA384
_TPM_LOG = log_header() + b"".join(
    log_event(register, {SHA1: bytes(20), SHA256: bytes((register,)) * 32}) for register in (4, 9)
)
_CC_LOG = log_header(((SHA384, 48),)) + b"".join(
    log_event(register, {SHA384: bytes((register,)) * 48}) for register in (1, 2, 1, 3)
)
_AAEL = AaelEvent(domain="domain", operation="Operation", content='{"a":1}')
_OWN_LOG = encode_header(_SHA384) + encode_event(_AAEL.to_logged_event(4, _SHA384), _SHA384)
SEEDS = ((_TPM_LOG, Algorithm.SHA256), (_CC_LOG + END_OF_RECORDS, _SHA384), (_OWN_LOG, _SHA384))
SPECIAL = (0, 1, 0x7F, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def parse_or_refuse(data: bytes, algorithm: Algorithm) -> EventLog | None:
    """Return the log, or None for a refusal of the right family."""
    try:
        return parse_event_log(data, algorithm, end_marker=True)
    except FormatError as error:
        refused = error
    assert refused.reason.startswith("event_log."), refused
    return None


def check_aael(log: EventLog, algorithm: Algorithm) -> None:
    """Read each event as one of the guest's own, or refuse it."""
    for event in log.events:
        try:
            own = parse_aael_event(event, algorithm)
        except FormatError as error:
            assert error.reason.startswith("aael."), error  # noqa: PT017
        else:
            assert own.to_logged_event(event.register, algorithm) == event


def mutate(source: random.Random, seed: bytes) -> bytes:
    """Put special numbers into fields, cut, insert, or change bytes."""
    data = bytearray(seed)
    for _ in range(source.randrange(1, 4)):
        spot = source.randrange(len(data) + 1)
        match source.randrange(4):
            case 0:
                del data[spot:]
            case 1:
                data[spot:spot] = source.randbytes(source.randrange(1, 9))
            case 2:
                data[spot : spot + 4] = struct.pack("<I", source.choice(SPECIAL))
            case _:
                data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    trials = Trials(seconds, seed)
    for source in trials:
        original, algorithm = source.choice(SEEDS)
        log = parse_or_refuse(mutate(source, original), algorithm)
        if log is not None:
            assert parse_or_refuse(log.records, algorithm) == log
            check_aael(log, algorithm)
            for event in log.events:
                changed = bytearray(log.records)
                changed[log.records.rindex(event.digest)] ^= 1
                other = parse_or_refuse(bytes(changed), algorithm)
                assert other != log
    return trials.count


if __name__ == "__main__":
    run(main)
