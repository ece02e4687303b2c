"""Which verifier judges the evidence of which platform.

The KBS, `guest-owner unseal` and whatever else judges evidence come through here, so that a
platform is accepted by all of them or by none. There is no default: a name that is not in the
table has no verifier.
"""

from collections.abc import Mapping

from ccinit.errors import FormatError
from ccinit.formats.sealed_log import BootId
from ccinit.formats.sealed_log import report_data as log_report_data
from ccinit.formats.strict_json import JsonValue
from ccinit.formats.tee import Tee
from guest_owner.kbs.appraisal import AppraisedEvidence, Verifier
from guest_owner.kbs.references import References
from guest_owner.kbs.verifiers import snp, tpm

VERIFIERS: Mapping[Tee, Verifier] = {
    Tee.TPM: tpm.verify_evidence,
    Tee.SNP: snp.verify_evidence,
}


def find_verified_tee(name: str) -> Tee:
    """Return the platform of that name if its evidence can be judged here.

    Raises:
        FormatError: `evidence.tee`.
    """
    for tee in VERIFIERS:
        if tee.value == name:
            return tee
    known = ", ".join(VERIFIERS)
    raise FormatError("evidence.tee", f"no verifier for {name[:64]!r}, only {known}")


def verify_evidence(
    tee: Tee,
    evidence: JsonValue,
    *,
    report_data: bytes,
    initdata_digest: bytes | None,
    references: References,
) -> AppraisedEvidence:
    """Let the platform's verifier judge; arguments and errors are those of `Verifier`."""
    return VERIFIERS[tee](
        evidence, report_data=report_data, initdata_digest=initdata_digest, references=references
    )


def verify_log_evidence(
    tee: Tee,
    evidence: JsonValue,
    *,
    boot_id: BootId,
    signing_key: bytes,
    references: References,
) -> AppraisedEvidence:
    """Judge the evidence that binds a sealed log's signing key to a guest.

    Args:
        tee: the platform that record 1 of the stream names.
        evidence: from the same record.
        boot_id: of the stream's header.
        signing_key: the Ed25519 public key of record 1, 32 bytes.
        references: everything that is trusted; any registered pod may have written the log.

    Raises:
        EvidenceRefusedError, FormatError: as `Verifier`.
    """
    return verify_evidence(
        tee,
        evidence,
        report_data=log_report_data(boot_id, signing_key),
        initdata_digest=None,
        references=references,
    )
