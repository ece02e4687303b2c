"""Which verifier judges the evidence of which platform.

The KBS, `guest-owner unseal` and whatever else judges evidence come through here, so that all of
them accept a platform or none does. There is no default: a name that is not in the table has no
verifier.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import Tee, initdata_binding, report_data_for
from ccinit.formats.initdata.document import document_digest
from ccinit.formats.kbs.rcar import Attestation, Nonce, device_digest, report_digest
from ccinit.formats.sealed_log import BootId
from ccinit.formats.sealed_log import report_data as log_report_data
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError, Verifier
from guest_owner.kbs.attestation_requests.se import make_se_nonce
from guest_owner.kbs.attestation_requests.svsm import make_svsm_nonce
from guest_owner.kbs.devices import Device
from guest_owner.kbs.references.values import References
from guest_owner.kbs.verifiers import azure, sample, se, snp, svsm, tdx, tpm
from guest_owner.kbs.verifiers.devices import judge_devices

VERIFIERS: Mapping[Tee, Verifier] = {
    Tee.TPM: tpm.verify_evidence,
    Tee.SNP: snp.verify_evidence,
    Tee.TDX: tdx.verify_evidence,
    Tee.AZ_SNP_VTPM: partial(azure.verify_evidence, Tee.AZ_SNP_VTPM),
    Tee.AZ_TDX_VTPM: partial(azure.verify_evidence, Tee.AZ_TDX_VTPM),
    Tee.SE: se.verify_evidence,
    Tee.SVSM: svsm.verify_evidence,
    Tee.SAMPLE: sample.verify_evidence,
}


REQUESTS: Mapping[Tee, Callable[[References, JsonValue], Nonce]] = {
    Tee.SE: lambda references, _parameters: make_se_nonce(references),
    Tee.SVSM: make_svsm_nonce,
}
"""What takes a nonce's place on platforms whose evidence answers a request; given what the guest's
own request says."""


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


def verify_attestation(
    tee: Tee,
    attestation: Attestation,
    references: References,
    devices: frozenset[Device],
) -> AppraisedEvidence:
    """Judge the evidence of one RCAR handshake: for its nonce, its key and its initdata.

    Whether the nonce is fresh, only its sender can say.

    Args:
        tee: the platform.
        attestation: untrusted.
        references: everything that is trusted.
        devices: those beside the platform that may vouch for a guest, too; evidence of any other
            is refused.

    Raises:
        EvidenceRefusedError, FormatError: as `Verifier`; `device.…`, `rcar.additional_evidence…`.
    """
    nonce, key, text = attestation.nonce, attestation.tee_pubkey, attestation.additional_evidence
    judged = judge_devices(text, device_digest(nonce, key, tee), devices)
    initdata, algorithm = attestation.init_data, initdata_binding(tee).algorithm
    try:
        appraised = VERIFIERS[tee](
            attestation.primary_evidence,
            report_data=report_data_for(tee, report_digest(nonce, key, text, tee)),
            initdata_digest=(
                None if initdata is None else document_digest(initdata.encode(), algorithm)
            ),
            references=references,
        )
    except EvidenceRefusedError as refused:
        made = (*refused.claims, *judged.claims.made)
        raise EvidenceRefusedError(made, authentic=refused.authentic) from refused
    made = (*appraised.claims, *judged.claims.made)
    if not judged.claims.all_hold:
        raise EvidenceRefusedError(made, authentic=True)
    return replace(appraised, claims=made, devices=judged.devices, additional_evidence=text)


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
    return VERIFIERS[tee](
        evidence,
        report_data=log_report_data(boot_id, signing_key),
        initdata_digest=None,
        references=references,
    )
