"""Appraisal of `az-snp-vtpm` and `az-tdx-vtpm` evidence: a paravisor's vTPM, and what it runs on.

Azure's guests see neither SEV-SNP nor TDX, but the TPM of a paravisor below them. The hardware
vouches for the paravisor and for a text of its claims; the text has the TPM's attestation key; that
key quotes the registers. (Azure documentation, "Guest attestation for confidential VMs".)

The steps, all of them MUST; each failing one becomes a claim with the name in brackets:

     1. The paravisor's report is well-formed and of the right hardware [`hcl.…`,
        `hcl.report_type`].
     2. The hardware's report is genuine. SNP: steps 1 to 4 of `snp` with the VCEK that came along
        [`snp.…`]. TDX: steps 1 to 5 of `tdx` with the quote that came along, which is one of the
        paravisor's TD report [`pck.…`, `qe.…`, `quote.vendor`, `quote.signature`, `hcl.hardware`].
     3. Its report data begins with the SHA-256 of the claims [`hcl.claims`]; the other half is the
        paravisor's.
     4. The claims have the expected report data as the guest's user data [`hcl.user_data`].
     5. The key in the claims signed the TPM's quote [`ak.signature`], which passes steps 4 to 7 of
        `tpm` [`quote.report_data`, `quote.selection`, `quote.pcr_digest`, `tpm2.…`].
     6. Requirements are registered, and the paravisor is one of theirs [`paravisor.requirements`,
        `paravisor.measurement`].
     7. The hardware is as the owner demands. SNP: `snp_platform`, and VMPL 0. TDX: `tdx_platform`,
        and step 15 of `tdx` [`snp.…`; `pck.…`, `qe.…`, `td.…`].
     8. The registers are those of a registered image and document: steps 8 to 11 of `tpm`
        [`pcr.…`, `initdata.digest`]. An image's registers are the same on every TPM.

Steps 1 to 5 make the registers authentic; the others judge them. HOSTDATA, MRCONFIGID and the RTMRs
are not judged: the guest does not use them, and the paravisor answers for what it launched.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.azure import AzureEvidence, parse_azure_evidence
from ccinit.formats.evidence.hcl_report import HardwareKind, HclReport, parse_hcl_report
from ccinit.formats.evidence.snp import Certificate, CertType, SnpEvidence
from ccinit.formats.evidence.snp_report import parse_snp_report
from ccinit.formats.evidence.tdx_quote import parse_tdx_quote
from ccinit.formats.evidence.tdx_report import parse_td_report
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.evidence.tpm import encode_rsa_public_key
from guest_owner.kbs.appraisal import AppraisedEvidence, ClaimList
from guest_owner.kbs.references.requirements import Requirements
from guest_owner.kbs.references.values import References
from guest_owner.kbs.verifiers import snp, snp_platform, tdx, tdx_platform
from guest_owner.kbs.verifiers.paravisor import check_paravisor
from guest_owner.kbs.verifiers.tpm_quote import (
    INITDATA_PCR,
    check_quote,
    check_registers,
    check_signature,
    measured_pcrs,
    pcr_claims,
)

JudgePlatform = Callable[[tuple[Requirements, ...]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hardware:
    """What stands below a paravisor, once its signatures are checked.

    Attributes:
        report_data: 64 bytes that the paravisor chose.
        measurement: of the paravisor, 48 bytes.
        judge: makes step 7 for what is demanded.
        measured: for the audit log.
        token_claims: as Trustee's verifier names them.
        endorsers: registered certificates that vouch for it, DER.
    """

    report_data: bytes
    measurement: bytes
    judge: JudgePlatform
    measured: Mapping[str, Mapping[str, str]]
    token_claims: Mapping[str, JsonValue]
    endorsers: tuple[bytes, ...]


def verify_evidence(
    tee: Tee,
    evidence: JsonValue,
    *,
    report_data: bytes,
    initdata_digest: bytes | None,
    references: References,
) -> AppraisedEvidence:
    """Make steps 1 to 8 for `tee`, one of the two; given that, it is a `Verifier`.

    Args:
        tee: whose evidence it has to be.
        evidence: untrusted.
        report_data: what it has to carry, 1 to 64 bytes.
        initdata_digest: SHA-256 of the document that came along, None if none did.
        references: everything that is trusted.

    Raises:
        FormatError: `azure_evidence.…`, `hcl.…`; `snp_report.…`, or `tdx_quote.…`, `tdx_report.…`.
        EvidenceRefusedError: at least one step failed.
    """
    received = parse_azure_evidence(tee, evidence)
    report = parse_hcl_report(received.hcl_report)
    claims = ClaimList()
    check_hardware = _check_snp if tee is Tee.AZ_SNP_VTPM else _check_tdx
    hardware = check_hardware(received, report, references, claims)
    # Step 3
    digest = report.claims_digest
    claims.compare_bytes("hcl.claims", digest, hardware.report_data[: len(digest)])
    # Step 4
    claims.compare_bytes("hcl.user_data", report_data.ljust(64, b"\0"), report.user_data)
    # Step 5
    key = encode_rsa_public_key(report.ak_modulus, report.ak_exponent)
    check_signature("ak.signature", key, received.signature, received.message, claims)
    check_quote(received.message, received.pcrs, report_data, claims)
    authentic = claims.all_hold
    _check_requirements(tee, hardware, references.requirements, claims)
    reference, initdata = check_registers(received.pcrs, initdata_digest, references, claims)
    image, document = claims.settle(reference, initdata, authentic=authentic)
    return AppraisedEvidence(
        tee=tee,
        reference=image,
        initdata=document,
        initdata_field=received.pcrs[INITDATA_PCR],
        report_data=report_data,
        measured={"pcr": measured_pcrs(received.pcrs), **hardware.measured},
        token_claims={**hardware.token_claims, "tpm": pcr_claims(received.pcrs)},
        claims=tuple(claims.made),
        endorsers=hardware.endorsers,
    )


def _check_kind(report: HclReport, kind: HardwareKind) -> None:
    """Make step 1; a report of other hardware has nothing in it to go on with."""
    if report.kind is not kind:
        raise FormatError(
            "hcl.report_type", f"expected a report of {kind.name}, found one of {report.kind.name}"
        )


def _check_snp(
    evidence: AzureEvidence, hcl: HclReport, references: References, claims: ClaimList
) -> _Hardware:
    _check_kind(hcl, HardwareKind.SNP)
    # Step 2
    report = parse_snp_report(hcl.hardware)
    vcek = Certificate(cert_type=CertType.VCEK, data=evidence.endorsement)
    key = snp.check_origin(
        SnpEvidence(report=report, certificates=(vcek,)),
        references.roots_of(evidence.tee),
        claims,
    )

    def judge(demanded: tuple[Requirements, ...]) -> None:
        snp.check_vmpl(report, claims)
        snp_platform.check_platform(report, key, demanded, claims)

    return _Hardware(
        report_data=report.report_data,
        measurement=report.measurement,
        judge=judge,
        measured={"snp": snp.measured_values(report)},
        token_claims=snp.report_claims(report),
        endorsers=() if key is None else key.registered,
    )


def _check_tdx(
    evidence: AzureEvidence, hcl: HclReport, references: References, claims: ClaimList
) -> _Hardware:
    _check_kind(hcl, HardwareKind.TDX)
    # Step 2
    quote = parse_tdx_quote(evidence.endorsement)
    pck = tdx.check_origin(quote, references.roots_of(evidence.tee), claims)
    body, asked = quote.body, parse_td_report(hcl.hardware)
    claims.compare(
        "hcl.hardware",
        "the TD report that the quote is of",
        f"one over {asked.report_data.hex()}",
        holds=(body.report_data, body.td_attributes, body.mrconfigid, body.rtmrs)
        == (asked.report_data, asked.td_attributes, asked.mrconfigid, asked.rtmrs),
    )

    def judge(demanded: tuple[Requirements, ...]) -> None:
        tdx_platform.check_platform(quote, pck, demanded, claims)
        tdx.check_unused(body, claims)

    return _Hardware(
        report_data=body.report_data,
        measurement=body.mrtd,
        judge=judge,
        measured={"td": {"mrtd": body.mrtd.hex()}},
        token_claims=tdx.quote_claims(quote),
        endorsers=() if pck is None else (pck.root,),
    )


def _check_requirements(
    tee: Tee, hardware: _Hardware, requirements: tuple[Requirements, ...], claims: ClaimList
) -> None:
    # Step 6
    demanded = check_paravisor(tee, hardware.measurement, requirements, claims)
    # Step 7
    if demanded is not None:
        hardware.judge((demanded.hardware,))
