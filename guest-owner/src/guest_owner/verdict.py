"""What a command says of evidence that it has judged: a table for people, or one JSON object.

One form for `guest-owner verify`, which judges what is in a file, and `guest-owner attest`, which
has asked a guest for it.
"""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ccinit.formats.evidence.tee import Tee
from guest_owner.claims_table import format_claims
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.audit.claims import encode_claims

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def print_verdict(
    tee: Tee,
    judge: Callable[[], AppraisedEvidence],
    *,
    as_json: bool,
    noted: Mapping[str, str] = _NOTHING,
) -> int:
    """Judge evidence, and print every claim and the verdict.

    Args:
        tee: the platform of the evidence.
        judge: one of its verifiers, called with the evidence.
        as_json: whether to print JSON.
        noted: what else there is to say, by name.

    Returns:
        The exit status: 1 if the evidence was refused.
    """
    try:
        appraised = judge()
    except EvidenceRefusedError as refusal:
        status, claims = 1, refusal.claims
        said = f"refused: {', '.join(refusal.failed)}"
        verdict: dict[str, object] = {
            "verdict": "refused",
            "tee": tee.value,
            "reason": refusal.reason,
            "authentic": refusal.authentic,
        }
    else:
        status, claims, who = 0, appraised.claims, appraised.subject
        said = f"accepted: image {who.reference} ({who.profile}), initdata {who.initdata_name}"
        verdict = {
            "verdict": "accepted",
            "tee": tee.value,
            "reference": who.reference,
            "profile": who.profile.value,
            "initdata": str(who.initdata_digest),
            "initdata_name": who.initdata_name,
        }
    if as_json:
        print(json.dumps({**verdict, **noted, "claims": encode_claims(claims)}, indent=2))
    else:
        lines = (f"{name.replace('_', ' ')} {text}" for name, text in noted.items())
        print(format_claims(claims), "", said, *lines, sep="\n")
    return status
