"""Appraisal of `snp` evidence: a report of SEV-SNP against what the owner registered.

Pure: bytes and registrations in, `AppraisedEvidence` or `EvidenceRefusedError` out. The report's
format is `ccinit.formats.evidence.snp_report` (AMD 56860), its signer's chain is `snp_chain` beside
this.

The steps, all of them MUST; each failing one becomes a claim with the name in brackets:

     1. A registered root stands behind one endorsement key [`snp.endorsement_key`, `snp.root`,
        `snp.chain`, `snp.certificate`].
     2. The report names that kind of key and the one algorithm, and its key is not masked
        [`snp.sig_algo`, `snp.key_info`].
     3. The signature over the first 672 bytes verifies with that key [`snp.signature`].
     4. The key is that of the reported firmware, chip and processor [`snp.reported_tcb`,
        `snp.chip_id`, `snp.cpuid`].
     5. The report data is the expected one, whole [`snp.report_data`].
     6. The launch measurement is in a registered reference set [`snp.measurement`].
     7. HOSTDATA is the initdata document's SHA-256, which is on the owner's list [`snp.host_data`,
        `initdata.digest`].
     8. The guest's kernel spoke, at VMPL 0 [`snp.vmpl`].
     9. The platform is as the owner demands: `guest_owner.kbs.verifiers.snp_platform`.

Steps 1 to 5 make the report authentic; the others judge it. All are made even after one fails. The
report's own id and the processor's stepping are not judged: no value is worse than another.
"""

from dataclasses import replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import JsonValue, encode_base64
from ccinit.formats.evidence.snp import CertType, SnpEvidence, parse_snp_evidence
from ccinit.formats.evidence.snp_report import (
    ECDSA_P384_SHA384,
    SIGNING_KEY_SHIFT,
    PlatformBit,
    PolicyBit,
    SnpReport,
)
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import AppraisedEvidence, ClaimList, list_known
from guest_owner.kbs.references.measurements.image import SnpMeasurements
from guest_owner.kbs.references.requirements import SnpProduct
from guest_owner.kbs.references.values import References, ReferenceSet, RegisteredRoot
from guest_owner.kbs.verifiers.document import check_bound_document
from guest_owner.kbs.verifiers.snp_chain import (
    KEY_NUMBERS,
    EndorsementKey,
    verify_endorsement_key,
)
from guest_owner.kbs.verifiers.snp_platform import check_platform

# CPUID family, and the ranges of models, of each product.
_PROCESSORS = {
    SnpProduct.MILAN: (0x19, (range(0x10),)),
    SnpProduct.GENOA: (0x19, (range(0x10, 0x20), range(0xA0, 0xB0))),
    SnpProduct.TURIN: (0x1A, (range(0x20),)),
}


def verify_evidence(
    evidence: JsonValue,
    *,
    report_data: bytes,
    initdata_digest: bytes | None,
    references: References,
) -> AppraisedEvidence:
    """Make steps 1 to 9, as a `guest_owner.kbs.appraisal.Verifier`; report data: 64 bytes.

    Raises:
        FormatError: `snp_evidence.…`, `snp_report.…`.
        EvidenceRefusedError: at least one step failed.
    """
    parsed = parse_snp_evidence(evidence)
    report, claims = parsed.report, ClaimList()
    key = check_origin(parsed, references.roots_of(Tee.SNP), claims)
    claims.compare_bytes("snp.report_data", report_data, report.report_data)
    authentic = claims.all_hold
    reference = check_measurement(report.measurement, references.sets, claims)
    # Step 7; no document has a digest of zeros, so a field that nobody set matches none.
    initdata = check_bound_document(
        Tee.SNP, "snp.host_data", report.host_data, initdata_digest, references.initdata, claims
    )
    check_vmpl(report, claims)
    check_platform(report, key, references.requirements, claims)
    image, document = claims.settle(reference, initdata, authentic=authentic)
    return AppraisedEvidence(
        tee=Tee.SNP,
        reference=image,
        initdata=document,
        initdata_field=report.host_data,
        report_data=report_data,
        measured={"snp": {**measured_values(report), "host_data": report.host_data.hex()}},
        token_claims=report_claims(report),
        claims=tuple(claims.made),
        endorsers=() if key is None else key.registered,
    )


def check_origin(
    evidence: SnpEvidence, roots: tuple[RegisteredRoot, ...], claims: ClaimList
) -> EndorsementKey | None:
    """Make steps 1 to 4: a secure processor made the report; return its key, None if none did."""
    key = _check_chain(evidence, roots, claims)
    if key is not None:
        _check_signature(evidence.report, key, claims)
        _check_identity(evidence.report, key, claims)
    return key


def _check_chain(
    evidence: SnpEvidence, roots: tuple[RegisteredRoot, ...], claims: ClaimList
) -> EndorsementKey | None:
    # Step 1
    trusted = [certificate for root in roots for certificate in root.certificates]
    names = tuple(root.name for root in roots)
    try:
        key = verify_endorsement_key(evidence, trusted)
    except CcinitError as error:
        claims.compare(error.reason, list_known(names), error.detail, holds=False)
        return None
    claims.compare("snp.chain", list_known(names), f"{key.kind} of {key.product}", holds=True)
    return key


def _check_signature(report: SnpReport, key: EndorsementKey, claims: ClaimList) -> None:
    # Step 2
    claims.compare(
        "snp.sig_algo",
        str(ECDSA_P384_SHA384),
        str(report.sig_algo),
        holds=report.sig_algo == ECDSA_P384_SHA384,
    )
    # No reserved bit, no masked key; AUTHOR_KEY is judged with the digest that it announces.
    expected = KEY_NUMBERS[key.kind] << SIGNING_KEY_SHIFT
    claims.compare(
        "snp.key_info",
        f"{expected:#x} or {expected | 1:#x}",
        f"{report.key_info:#x}",
        holds=report.key_info & ~1 == expected,
    )
    # Step 3
    r, s = (int.from_bytes(part, "little") for part in (report.signature_r, report.signature_s))
    holds = True
    try:
        key.key.verify(encode_dss_signature(r, s), report.signed_bytes, ec.ECDSA(SHA384()))
    except InvalidSignature:
        holds = False
    claims.compare(
        "snp.signature", "verifies", "verifies" if holds else "does not verify", holds=holds
    )


def _check_identity(report: SnpReport, key: EndorsementKey, claims: ClaimList) -> None:
    # Step 4
    claims.compare(
        "snp.reported_tcb",
        str(key.tcb),
        str(report.reported_tcb),
        holds=report.reported_tcb == key.tcb,
    )
    if key.kind is CertType.VCEK:
        claims.compare_bytes("snp.chip_id", key.hwid, report.chip_id)
    if report.cpuid_fam_id is not None and report.cpuid_mod_id is not None:
        family, models = _PROCESSORS[key.product]
        claims.compare(
            "snp.cpuid",
            f"a {key.product}",
            f"family {report.cpuid_fam_id:#x} model {report.cpuid_mod_id:#x}",
            holds=report.cpuid_fam_id == family
            and any(report.cpuid_mod_id in known for known in models),
        )


def check_vmpl(report: SnpReport, claims: ClaimList) -> None:
    """Make step 8."""
    claims.compare("snp.vmpl", "0", str(report.vmpl), holds=report.vmpl == 0)


def check_measurement(
    measurement: bytes | None, sets: tuple[ReferenceSet, ...], claims: ClaimList
) -> ReferenceSet | None:
    """Make step 6, which fails for None; return the matching set with only the matching value."""
    listed = [
        (known, known.measured.values)
        for known in sets
        if isinstance(known.measured, SnpMeasurements)
    ]
    names = tuple(f"a measurement of {known.name}" for known, _ in listed)
    got = "none" if measurement is None else measurement.hex()
    named = next((known for known, values in listed if measurement in values), None)
    claims.compare("snp.measurement", list_known(names), got, holds=named is not None)
    if named is None or measurement is None:
        return None
    return replace(named, measured=SnpMeasurements(values=(measurement,)))


def measured_values(report: SnpReport) -> dict[str, str]:
    """Return what a report says of launch and processor, for the audit log."""
    return {
        "measurement": report.measurement.hex(),
        "chip_id": report.chip_id.hex(),
        "reported_tcb": str(report.reported_tcb),
    }


def report_claims(report: SnpReport) -> dict[str, JsonValue]:
    """Return the claims of Trustee's `snp` verifier, texts all of them."""
    tcb = report.reported_tcb
    bits = {
        "policy_smt_allowed": PolicyBit.SMT,
        "policy_migrate_ma": PolicyBit.MIGRATE_MA,
        "policy_debug_allowed": PolicyBit.DEBUG,
        "policy_single_socket": PolicyBit.SINGLE_SOCKET,
    }
    return {
        "measurement": encode_base64(report.measurement),
        "report_data": encode_base64(report.report_data),
        "init_data": encode_base64(report.host_data),
        "policy_abi_major": str(report.policy >> 8 & 0xFF),
        "policy_abi_minor": str(report.policy & 0xFF),
        **{name: _boolean(report.policy & bit) for name, bit in bits.items()},
        "platform_smt_enabled": _boolean(report.plat_info & PlatformBit.SMT),
        "platform_tsme_enabled": _boolean(report.plat_info & PlatformBit.TSME),
        "reported_tcb_bootloader": str(tcb.bootloader),
        "reported_tcb_tee": str(tcb.tee),
        "reported_tcb_snp": str(tcb.snp),
        "reported_tcb_microcode": str(tcb.microcode),
    }


def _boolean(value: int) -> str:
    return "true" if value else "false"
