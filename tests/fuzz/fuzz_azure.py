"""Invariant: any bytes given to the parsers of paravisors and realms are a value or a refusal of
that format, and changed evidence of an Azure VM is refused, or vouches for what it did before.

Run as `python -m tests.fuzz.fuzz_azure [SECONDS [SEED]]`.
"""

import base64
import random
from collections.abc import Callable
from typing import cast

from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.azure import AzureEvidence, parse_azure_evidence
from ccinit.formats.evidence.cca_token import parse_cca_token
from ccinit.formats.evidence.hcl_report import parse_hcl_report
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.tcg.tpm2_nv import parse_list_nv_indexes, parse_nv_done, parse_nv_size
from guest_owner.kbs.verifiers.table import VERIFIERS
from tests.fakes.platforms.azure import base64url
from tests.fakes.platforms.cca import FakeRealm
from tests.fuzz.trials import Trials, run
from tests.unit.guest_owner.kbs.verifiers.azure_values import azure_references, azure_vm

REPORT_DATA = bytes(range(48))
HONEST = azure_vm(Tee.AZ_SNP_VTPM).evidence(REPORT_DATA)
TRUSTED = azure_references()
PARSERS: dict[str, Callable[[bytes], object]] = {
    "hcl.": parse_hcl_report,
    "cca_token.": parse_cca_token,
    "tpm2.": lambda data: (parse_list_nv_indexes(data), parse_nv_size(data)),
    "tpm2": parse_nv_done,
}
_REPORT = base64.urlsafe_b64decode(cast("str", HONEST["hcl_report"]) + "==")
_VCEK = base64.urlsafe_b64decode(cast("str", HONEST["vcek"]) + "==")
_SEEDS = (_REPORT, FakeRealm().token(bytes(64)), bytes.fromhex("80010000000a00000000"))


def mutate(source: random.Random, seed: bytes) -> bytes:
    """Change, cut or lengthen."""
    data = bytearray(seed)
    spot = source.choice((0, 8, 32 + 1184, 32 + 1184 + 16, source.randrange(len(data) + 1)))
    match source.randrange(3):
        case 0:
            del data[spot : spot + source.randrange(1, 9)]
        case 1:
            data[spot:spot] = source.randbytes(source.randrange(1, 9))
        case _:
            data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def spoil(source: random.Random) -> dict[str, JsonValue]:
    """Return the honest evidence with one part changed."""
    quote = cast("dict[str, JsonValue]", HONEST["tpm_quote"])
    match source.randrange(4):
        case 0:
            return {**HONEST, "hcl_report": base64url(mutate(source, _REPORT))}
        case 1:
            return {**HONEST, "vcek": base64url(mutate(source, _VCEK))}
        case 2:
            name = source.choice(("message", "signature"))
            changed = mutate(source, bytes.fromhex(cast("str", quote[name]))).hex()
            return {**HONEST, "tpm_quote": {**quote, name: changed}}
        case _:
            pcrs = list(cast("list[JsonValue]", quote["pcrs"]))
            pcrs[source.randrange(24)] = source.randbytes(32).hex()
            return {**HONEST, "tpm_quote": {**quote, "pcrs": pcrs}}


def vouched(evidence: AzureEvidence) -> tuple[object, ...]:
    """What acceptance says something about; lengths in headers say nothing."""
    report = parse_hcl_report(evidence.hcl_report)
    return report.hardware, report.claims, evidence.message, evidence.signature, evidence.pcrs


def is_accepted(evidence: dict[str, JsonValue]) -> bool:
    try:
        VERIFIERS[Tee.AZ_SNP_VTPM](
            evidence,
            report_data=REPORT_DATA,
            initdata_digest=None,
            references=TRUSTED,
        )
    except CcinitError:
        return False
    return True


def refusal(parse: Callable[[bytes], object], data: bytes) -> str:
    try:
        parse(data)
    except CcinitError as error:
        return error.reason
    return "accepted"


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    assert is_accepted(HONEST)
    honest = vouched(parse_azure_evidence(Tee.AZ_SNP_VTPM, HONEST))
    trials = Trials(seconds, seed)
    for source in trials:
        data = mutate(source, source.choice(_SEEDS))
        for reasons, parse in PARSERS.items():
            assert refusal(parse, data).startswith((reasons, "accepted"))
        changed = spoil(source)
        if is_accepted(changed):
            assert vouched(parse_azure_evidence(Tee.AZ_SNP_VTPM, changed)) == honest
    return trials.count


if __name__ == "__main__":
    run(main)
