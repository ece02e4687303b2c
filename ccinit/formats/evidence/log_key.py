"""What vouches for the signing key in record 1 of a sealed log: which TEE, and its evidence.

JSON with exactly two members, `{"tee": NAME, "evidence": …}`; `tee` and the form of `evidence` are
those of the KBS protocol's attestation (`ccinit.formats.kbs.rcar`), so that one verifier reads
both. The stream around it is `ccinit.formats.sealed_log`.
"""

from typing import Final

from ccinit.formats.encoding.strict_json import JsonValue, members, parse_json, text_member
from ccinit.formats.sealed_log import MAX_EVIDENCE_BYTES
from ccinit.values import frozen

_MAX_TEE_BYTES: Final = 32


@frozen
class LogEvidence:
    """Evidence whose report data is `sealed_log.report_data` of the stream's boot and key."""

    tee: str
    evidence: JsonValue


def encode_log_evidence(tee: str, evidence: bytes) -> bytes:
    """Return the bytes that follow the signing key in record 1.

    Args:
        tee: one of the guest's own names of platforms: letters, digits, `-`.
        evidence: JSON text as the evidence child delivered it; PID 1 does not parse it.
    """
    return b'{"evidence":' + evidence + b',"tee":"' + tee.encode() + b'"}'


def parse_log_evidence(data: bytes) -> LogEvidence:
    """Read what `encode_log_evidence` wrote.

    Raises:
        FormatError: `log_evidence.…`.
    """
    value = members(
        parse_json(data, "log_evidence", MAX_EVIDENCE_BYTES),
        frozenset(("tee", "evidence")),
        "log_evidence",
    )
    tee = text_member(value, "tee", "log_evidence", max_bytes=_MAX_TEE_BYTES)
    return LogEvidence(tee=tee, evidence=value["evidence"])
