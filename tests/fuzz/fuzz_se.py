"""Invariant: any bytes given to a parser of Secure Execution are a value or a `FormatError` with a
reason of that parser, and never anything else; and no change of a guest's evidence is accepted but
of the tags that came along.

Run as `python -m tests.fuzz.fuzz_se [SECONDS [SEED]]`.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import JsonValue, parse_json
from ccinit.formats.evidence.se import (
    encode_se_request,
    parse_se_evidence,
    parse_se_request,
)
from ccinit.values import replace
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.verifiers.se import verify_evidence
from tests.fakes.platforms.ultravisor import Ultravisor
from tests.fuzz.fuzz_snp import mutate
from tests.fuzz.trials import Trials, run
from tests.unit.guest_owner.kbs.se_values import (
    INITDATA,
    REPORT_DATA,
    measured,
    se_references,
    se_request,
)

REFERENCES = se_references()
REQUEST = se_request()
HONEST = measured(Ultravisor(), REQUEST)


def appraise(value: JsonValue) -> None:
    """Let the verifier judge."""
    verify_evidence(value, report_data=REPORT_DATA, initdata_digest=INITDATA, references=REFERENCES)


def reason_of(parse: Callable[[Any], object], data: object, family: str) -> str:
    """Return why a parser refuses, which has to be of its own family; "" if it does not."""
    reason = ""
    try:
        parse(data)
    except FormatError as error:
        reason = error.reason
    assert not reason or reason.startswith(family), reason
    return reason


def check_request(data: bytes) -> None:
    """Carry a request, if it is one."""
    if not reason_of(parse_se_request, data, "se_request."):
        request = parse_se_request(data)
        assert parse_se_request(encode_se_request(request)) == request


def check_evidence(data: bytes) -> None:
    """Carry evidence, if it is any, and see it refused."""
    with suppress(FormatError):
        value = parse_json(data, "fuzz", 1 << 20)
        if reason_of(parse_se_evidence, value, "se_evidence."):
            return
        evidence = parse_se_evidence(value)
        assert parse_se_evidence(evidence.to_json_value()) == evidence
        try:
            appraise(value)
        except EvidenceRefusedError:
            return
        assert replace(evidence, header_tags=HONEST.header_tags) == HONEST


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    request = encode_se_request(REQUEST)
    evidence = json.dumps(HONEST.to_json_value()).encode()
    appraise(HONEST.to_json_value())
    trials = Trials(seconds, seed)
    for source in trials:
        check_request(mutate(source, request))
        check_evidence(mutate(source, evidence))
    return trials.count


if __name__ == "__main__":
    run(main)
