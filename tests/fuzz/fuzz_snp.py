"""Invariant: any bytes given to a parser of SEV-SNP are a value or a `FormatError` with a reason of
that parser, and never anything else; a report that is accepted is carried to the byte, as bytes and
as Trustee's JSON.

Run as `python -m tests.fuzz.fuzz_snp [SECONDS [SEED]]`.
"""

import json
import random
from contextlib import suppress
from typing import Any

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import parse_json
from ccinit.formats.evidence.snp import (
    SnpEvidence,
    parse_certificate_table,
    parse_snp_evidence,
)
from ccinit.formats.evidence.snp_report import parse_snp_report
from tests.fakes.platforms.snp import ASK, VCEK, FakeSnp, certificate_table
from tests.fuzz.trials import Trials, run

_REASONS = ("snp_report.", "snp_certificates.", "snp_evidence.", "fuzz.")


def check_report(data: bytes) -> None:
    """Carry a report as bytes and as JSON, if it is one."""
    with suppress(FormatError):
        report = parse_snp_report(data)
        assert report.to_bytes() == data
        evidence = SnpEvidence(report=report, certificates=())
        with suppress(FormatError):  # an integer beyond 2^53
            text = json.dumps(evidence.to_json_value()).encode()
            assert parse_snp_evidence(parse_json(text, "fuzz", len(text))) == evidence


def check_refusal(parse: Any, data: bytes) -> None:
    """Let a parser refuse, with a reason of its own."""
    reason = _REASONS[0]
    try:
        parse(data)
    except FormatError as error:
        reason = error.reason
    assert reason.startswith(_REASONS), reason


def parse_text(data: bytes) -> SnpEvidence:
    """Read evidence as it comes from the wire."""
    return parse_snp_evidence(parse_json(data, "fuzz", 1 << 20))


def mutate(source: random.Random, seed: bytes) -> bytes:
    """Change, cut or lengthen."""
    data = bytearray(seed)
    for _ in range(source.randrange(1, 4)):
        spot = source.randrange(len(data) + 1)
        match source.randrange(6):
            case 0:
                del data[spot:]
            case 1:
                data[spot:spot] = source.randbytes(source.randrange(1, 9))
            case 2:
                data[spot : spot + 4] = source.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"null"))
            case _:
                data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    snp = FakeSnp()
    report, table = snp.report(bytes(64)), certificate_table({VCEK: b"vcek", ASK: b"ask"})
    text = json.dumps(snp.evidence(bytes(64))).encode()
    check_report(report)
    assert parse_text(text).report.to_bytes()[:672] == report[:672]
    trials = Trials(seconds, seed)
    for source in trials:
        changed = mutate(source, report)
        check_report(changed)
        check_refusal(parse_snp_report, changed)
        check_refusal(parse_certificate_table, mutate(source, table))
        check_refusal(parse_text, mutate(source, text))
    return trials.count


if __name__ == "__main__":
    run(main)
