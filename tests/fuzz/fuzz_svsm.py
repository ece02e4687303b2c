"""Invariant: any bytes given to a parser of an SVSM's evidence, or of the TPM's replies about keys,
are a value or a `FormatError` with a reason of that parser, and never anything else; and no change
of a guest's evidence is accepted.

Run as `python -m tests.fuzz.fuzz_svsm [SECONDS [SEED]]`.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ccinit.errors import CcinitError, FormatError
from ccinit.formats.encoding.strict_json import parse_json
from ccinit.formats.evidence.svsm import (
    SvsmRequest,
    encode_svsm_keys,
    encode_svsm_request,
    parse_svsm_evidence,
    parse_svsm_keys,
    parse_svsm_request,
)
from ccinit.formats.tcg.tpm2_keys import (
    EK_TEMPLATE,
    encode_create_primary,
    parse_activate_credential,
    parse_create_primary,
    parse_endorsement_policy,
    parse_flush,
    parse_start_policy,
)
from guest_owner.kbs.attestation_requests.svsm import make_svsm_request
from guest_owner.kbs.verifiers.svsm import verify_evidence
from tests.fuzz.fuzz_snp import mutate
from tests.fuzz.trials import Trials, run
from tests.unit.guest_owner.kbs.svsm_values import (
    REPORT_DATA,
    SEALING_KEY,
    keys,
    svsm_evidence,
    svsm_references,
)

HONEST = svsm_evidence()
TRUSTED = svsm_references()
REQUEST = SvsmRequest(nonce=b"n" * 32, blob=b"b" * 68, secret=b"s" * 256, sealed=b"x" * 124)
REPLIES: tuple[Callable[[bytes], object], ...] = (
    parse_create_primary,
    parse_flush,
    parse_start_policy,
    parse_endorsement_policy,
    parse_activate_credential,
)
OWN = ("svsm_evidence.", "snp_evidence.", "snp_report.", "tpm_evidence.")


def reason_of(parse: Callable[[Any], object], data: object, *families: str) -> str:
    """Return why a parser refuses, which has to be of its own families; "" if it does not."""
    reason = ""
    try:
        parse(data)
    except FormatError as error:
        reason = error.reason
    assert not reason or reason.startswith(families), reason
    return reason


def check_keys(data: bytes) -> None:
    """Make a credential for whatever is named, or refuse."""
    with suppress(FormatError):
        value = parse_json(data, "fuzz", 1 << 16)
        if not reason_of(parse_svsm_keys, value, "svsm_keys."):
            named = parse_svsm_keys(value)
            reason_of(lambda got: make_svsm_request(got, SEALING_KEY), named, "svsm.", "tpm2.")


def check_evidence(data: bytes) -> None:
    """Carry evidence, if it is any, and see it refused."""
    with suppress(FormatError):
        value = parse_json(data, "fuzz", 1 << 20)
        if reason_of(parse_svsm_evidence, value, *OWN):
            return
        evidence = parse_svsm_evidence(value)
        assert parse_svsm_evidence(evidence.to_json_value()) == evidence
        try:
            verify_evidence(
                value, report_data=REPORT_DATA, initdata_digest=None, references=TRUSTED
            )
        except CcinitError:
            return
        assert evidence == HONEST


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    evidence = json.dumps(HONEST.to_json_value()).encode()
    named = json.dumps(encode_svsm_keys(keys())).encode()
    request, reply = encode_svsm_request(REQUEST), encode_create_primary(EK_TEMPLATE)
    verify_evidence(
        HONEST.to_json_value(), report_data=REPORT_DATA, initdata_digest=None, references=TRUSTED
    )
    trials = Trials(seconds, seed)
    for source in trials:
        reason_of(parse_svsm_request, mutate(source, request), "svsm_request.")
        check_keys(mutate(source, named))
        check_evidence(mutate(source, evidence))
        for parse in REPLIES:
            reason_of(parse, mutate(source, reply), "tpm2.")
    return trials.count


if __name__ == "__main__":
    run(main)
