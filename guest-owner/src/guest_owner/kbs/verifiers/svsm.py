"""Appraisal of `svsm` evidence: the vTPM of an SVSM, and the SEV-SNP guest that both are in.

The launch measurement covers the SVSM and the firmware; the vTPM is the SVSM's, and its registers
have what the firmware started. Formats are `ccinit.formats.evidence.svsm`, requests
`guest_owner.kbs.attestation_requests.svsm`.

The steps, all of them MUST; each failing one becomes a claim with the name in brackets:

     1. The request is one that this KBS made: its secrets open [`svsm.request`].
     2. The manifest is the endorsement key that the request's credential was made for, of the
        default template [`svsm.manifest`, `svsm.ek`].
     3. The attestation key is the one that the credential was made for, a restricted signing key
        fixed to its TPM; and the one that is said to have quoted [`svsm.ak`, `svsm.ak_public`].
     4. The guest knows what the credential held, so both keys are in one TPM [`svsm.credential`].
     5. A secure processor made the report: steps 1 to 4 of `snp` [`snp.…`].
     6. Its report data are the SHA-512 of the expected report data and the manifest
        [`snp.report_data`], and it is from VMPL 0 [`snp.vmpl`], which no guest of the SVSM runs at.
     7. The attestation key signed the quote [`ak.signature`], which passes steps 4 to 7 of `tpm`
        [`quote.report_data`, `quote.selection`, `quote.pcr_digest`, `tpm2.…`].
     8. Requirements are registered, and the launch is one of theirs [`paravisor.requirements`,
        `paravisor.measurement`]: an SVSM that is trusted with a TPM.
     9. The platform is as the owner demands: `snp_platform` [`snp.…`].
    10. The registers are those of a registered image and document: steps 8 to 11 of `tpm`
        [`pcr.…`, `initdata.digest`].

Steps 1 to 7 make the registers authentic, provided that the SVSM is good, which is step 8. HOSTDATA
is not judged: the document is in PCR 8.
"""

import hashlib
import hmac

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.svsm import SvsmEvidence, parse_svsm_evidence, service_report_data
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.evidence.tpm import TpmEvidence, encode_rsa_public_key
from ccinit.formats.tcg.tpm2_keys import AK_TEMPLATE, EK_TEMPLATE, parse_made_key
from guest_owner.kbs.appraisal import AppraisedEvidence, ClaimList
from guest_owner.kbs.attestation_requests.svsm import open_svsm_secrets
from guest_owner.kbs.references.values import References
from guest_owner.kbs.verifiers import snp, snp_platform
from guest_owner.kbs.verifiers.paravisor import check_paravisor
from guest_owner.kbs.verifiers.snp_chain import EndorsementKey
from guest_owner.kbs.verifiers.tpm_quote import (
    INITDATA_PCR,
    check_quote,
    check_registers,
    check_signature,
    measured_pcrs,
    pcr_claims,
    read_signature,
)


def verify_evidence(
    evidence: JsonValue,
    *,
    report_data: bytes,
    initdata_digest: bytes | None,
    references: References,
) -> AppraisedEvidence:
    """Make steps 1 to 10, as a `guest_owner.kbs.appraisal.Verifier`; report data: 64 bytes.

    Raises:
        FormatError: `svsm_evidence.…`, `snp_evidence.…`, `snp_report.…`, `tpm_evidence.…`.
        EvidenceRefusedError: at least one step failed.
    """
    parsed, claims = parse_svsm_evidence(evidence), ClaimList()
    _check_keys(parsed, references.request_key, claims)
    report = parsed.snp.report
    # Steps 5 and 6
    key = snp.check_origin(parsed.snp, references.roots_of(Tee.SVSM), claims)
    expected = service_report_data(report_data, parsed.manifest)
    claims.compare_bytes("snp.report_data", expected, report.report_data)
    snp.check_vmpl(report, claims)
    _check_quote(parsed.tpm, report_data, claims)
    authentic = claims.all_hold
    _check_requirements(parsed, key, references, claims)
    # Step 10
    pcrs = parsed.tpm.pcrs
    reference, initdata = check_registers(pcrs, initdata_digest, references, claims)
    image, document = claims.settle(reference, initdata, authentic=authentic)
    return AppraisedEvidence(
        tee=Tee.SVSM,
        reference=image,
        initdata=document,
        initdata_field=pcrs[INITDATA_PCR],
        report_data=report_data,
        measured={"pcr": measured_pcrs(pcrs), "snp": snp.measured_values(report)},
        token_claims={**snp.report_claims(report), "tpm": pcr_claims(pcrs)},
        claims=tuple(claims.made),
        endorsers=() if key is None else key.registered,
    )


def _check_keys(evidence: SvsmEvidence, sealing_key: bytes | None, claims: ClaimList) -> None:
    # Step 1
    secrets, got = None, "opens"
    try:
        secrets = open_svsm_secrets(sealing_key, evidence.sealed)
    except VerificationError as error:
        got = error.detail
    claims.compare("svsm.request", "opens", got, holds=secrets is not None)
    # Steps 2 and 3
    made_for = (b"", b"") if secrets is None else (secrets.ek, secrets.ak)
    for name, key, known in zip(
        ("svsm.manifest", "svsm.ak"), (evidence.manifest, evidence.ak), made_for, strict=True
    ):
        claims.compare_bytes(name, known, hashlib.sha256(key).digest())
    try:
        parse_made_key(evidence.manifest, EK_TEMPLATE, "svsm.ek")
        public = parse_made_key(evidence.ak, AK_TEMPLATE, "svsm.ak")
        claims.compare_bytes(
            "svsm.ak_public",
            encode_rsa_public_key(public.modulus, public.exponent),
            evidence.tpm.ak_public_der,
        )
    except FormatError as error:
        claims.fail(error)
    # Step 4
    holds = secrets is not None and hmac.compare_digest(secrets.content, evidence.activated)
    claims.compare(
        "svsm.credential", "what it held", "that" if holds else "something else", holds=holds
    )


def _check_quote(evidence: TpmEvidence, report_data: bytes, claims: ClaimList) -> None:
    # Step 7
    signature = read_signature(evidence.signature, claims)
    check_signature("ak.signature", evidence.ak_public_der, signature, evidence.message, claims)
    check_quote(evidence.message, evidence.pcrs, report_data, claims)


def _check_requirements(
    evidence: SvsmEvidence, key: EndorsementKey | None, references: References, claims: ClaimList
) -> None:
    report = evidence.snp.report
    # Step 8
    demanded = check_paravisor(Tee.SVSM, report.measurement, references.requirements, claims)
    # Step 9
    if demanded is not None:
        snp_platform.check_platform(report, key, (demanded.hardware,), claims)
