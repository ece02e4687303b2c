"""Appraisal of `tdx` evidence: an Intel TDX quote against what the owner registered.

Pure but for the present time, at which certificates have to be valid. Formats are
`ccinit.formats.tdx_quote`, `tdx_report`, `event_log` and `aael`; certificates are `pck`, registers
`tdx_registers`.

The steps, all of them MUST; each failing one becomes a claim with the name in brackets:

     1. The quote is one: version 4 or 5, ECDSA on P-256, a trust domain, by Intel's quoting enclave
        [`tdx_quote.…`, `tdx_report.…`, `quote.vendor`].
     2. The PCK certificate chains to a registered root of Intel's, now [`pck.chain`].
     3. The PCK signed the quoting enclave's report [`qe.signature`].
     4. That report binds the attestation key: SHA-256 over key and authentication data
        [`qe.report_data`].
     5. The attestation key signed header and body [`quote.signature`].
     6. The body's report data is the expected, whole [`quote.report_data`].
     7. The platform is one of the registered machines, at the registered versions or above
        [`pck.extension`, `pck.fmspc`, `pck.cpu_svn`, `pck.pce_svn`].
     8. So is the quoting enclave: signer, product, attributes, version [`qe.mrsigner`,
        `qe.product`, `qe.attributes`, `qe.isv_svn`].
     9. The TDX module is Intel's and a registered one, at the registered version or above
        [`td.mrsignerseam`, `td.seam_attributes`, `td.mrseam`, `td.tee_tcb_svn`].
    10. The domain has the registered attributes and features, which are never those of a debuggable
        one [`td.debug`, `td.attributes`, `td.xfam`].
    11. MRTD, RTMR 1 and RTMR 2 equal *one* registered reference set [`td.mrtd`, `rtmr.1`,
        `rtmr.2`].
    12. RTMR 0 is what the event log makes of it, by events of firmware's configuration only;
        RTMR 3 likewise, by events of the guest's own only [`event_log.…`, `rtmr.0`, `rtmr.3`].
    13. MRCONFIGID is the SHA-384 of the initdata document [`td.mrconfigid`].
    14. That document is on the owner's list [`initdata.digest`].
    15. MROWNER, MROWNERCONFIG and MRSERVICETD are zero: the host built and serves the domain as
        nobody else's [`td.mrowner`, `td.mrownerconfig`, `td.mrservicetd`].

Steps 1 to 6 make the values authentic; 7 to 15 judge them. All steps are made even after one fails,
because the owner who looks for the reason wants the whole list.
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from ccinit.errors import FormatError
from ccinit.formats.strict_json import JsonValue
from ccinit.formats.tdx_evidence import parse_tdx_evidence
from ccinit.formats.tdx_quote import QeReport, TdxQuote, parse_qe_report, parse_tdx_quote
from ccinit.formats.tdx_report import ZERO_MEASUREMENT, TdReportBody
from ccinit.formats.tee import Tee
from guest_owner.kbs.appraisal import (
    NOTHING,
    AppraisedEvidence,
    ClaimList,
    EvidenceRefusedError,
    list_known,
)
from guest_owner.kbs.references import References, ReferenceSet, RegisteredInitdata
from guest_owner.kbs.tdx_measurements import TdxMeasurements
from guest_owner.kbs.verifiers.pck import PckPlatform, load_chain, read_platform, verify_chain
from guest_owner.kbs.verifiers.tdx_registers import check_registers

VENDOR_INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_DEBUG = 1
_QE_PRODUCT = 2  # the quoting enclave for trust domains
# What Intel's QE Identity for it says: initialised, 64 bit, not debuggable; the mask leaves open
# what depends on the processor. No MISCSELECT.
_QE_ATTRIBUTES = bytes((0x11,)) + bytes(15)
_QE_ATTRIBUTES_MASK = b"\xfb" + b"\xff" * 7 + bytes(8)


def verify_evidence(
    evidence: JsonValue,
    *,
    report_data: bytes,
    initdata_digest: bytes | None,
    references: References,
) -> AppraisedEvidence:
    """Make steps 1 to 15, as a `guest_owner.kbs.appraisal.Verifier`; report data: 64 bytes.

    Raises:
        FormatError: `tdx_evidence.…`, `tdx_quote.…`, `tdx_report.…`: steps that have nothing to
            compare.
        EvidenceRefusedError: at least one step failed.
    """
    received = parse_tdx_evidence(evidence)
    quote = parse_tdx_quote(received.quote)
    claims = ClaimList()
    platform = _check_signatures(quote, references, claims)
    _compare(claims, "quote.report_data", report_data, quote.body.report_data)
    authentic = claims.all_hold
    reference = _closest(quote.body, references.sets)
    measured = None if reference is None else reference.measured
    if not isinstance(measured, TdxMeasurements):
        claims.compare("td.mrtd", NOTHING, quote.body.mrtd.hex(), holds=False)
    else:
        _check_platform(platform, measured, claims)
        _check_quoting_enclave(parse_qe_report(quote.certification.report), measured, claims)
        _check_module(quote.body, measured, claims)
        _check_domain(quote.body, measured, claims)
        check_registers(quote.body, received.event_log, measured, claims)
    initdata = _check_initdata(quote.body, initdata_digest, references.initdata, claims)
    _check_unused(quote.body, claims)
    made = tuple(claims.made)
    if reference is None or initdata is None or not claims.all_hold:
        raise EvidenceRefusedError(made, authentic=authentic)
    return AppraisedEvidence(
        tee=Tee.TDX,
        reference=reference,
        initdata=initdata,
        initdata_field=quote.body.mrconfigid,
        report_data=report_data,
        measured=_measured(quote.body),
        token_claims=_token_claims(quote),
        claims=made,
    )


def _check_signatures(
    quote: TdxQuote, references: References, claims: ClaimList
) -> PckPlatform | None:
    """Steps 1 to 5; return what the PCK certificate says, None if it says nothing."""
    # Step 1: its form was read; this is the one part of it with a value.
    _compare(claims, "quote.vendor", VENDOR_INTEL, quote.qe_vendor_id)
    certification = quote.certification
    # Step 2
    roots = tuple(
        certificate
        for root in references.roots
        if root.platform is Tee.TDX
        for certificate in root.certificates
    )
    pck, platform = None, None
    try:
        chain = load_chain(certification.chain_pem)
        pck = verify_chain(chain, roots)
        platform = read_platform(chain[0])
    except FormatError as error:
        claims.fail(error)
    # Step 3
    _check_signature(claims, "qe.signature", pck, certification.signature, certification.report)
    # Step 4
    bound = hashlib.sha256(quote.attestation_key + certification.authentication_data).digest()
    report = parse_qe_report(certification.report)
    _compare(claims, "qe.report_data", bound.ljust(64, b"\0"), report.report_data)
    # Step 5
    key = _attestation_key(quote.attestation_key)
    _check_signature(claims, "quote.signature", key, quote.signature, quote.signed)
    return platform


def _check_platform(
    platform: PckPlatform | None, measured: TdxMeasurements, claims: ClaimList
) -> None:
    # Step 7
    if platform is None:
        return  # its certificate has failed already
    tcb = measured.tcb
    claims.compare(
        "pck.fmspc",
        list_known(tuple(one.hex() for one in tcb.fmspc)),
        platform.fmspc.hex(),
        holds=platform.fmspc in tcb.fmspc,
    )
    _at_least(claims, "pck.cpu_svn", tcb.cpu_svn, platform.components)
    claims.compare(
        "pck.pce_svn",
        f"{tcb.pce_svn} or above",
        str(platform.pce_svn),
        holds=platform.pce_svn >= tcb.pce_svn,
    )


def _check_quoting_enclave(report: QeReport, measured: TdxMeasurements, claims: ClaimList) -> None:
    # Step 8
    tcb = measured.tcb
    _compare(claims, "qe.mrsigner", tcb.qe_mrsigner, report.mrsigner)
    claims.compare(
        "qe.product",
        str(_QE_PRODUCT),
        str(report.isv_prod_id),
        holds=report.isv_prod_id == _QE_PRODUCT,
    )
    masked = bytes(
        bits & mask for bits, mask in zip(report.attributes, _QE_ATTRIBUTES_MASK, strict=True)
    )
    claims.compare(
        "qe.attributes",
        f"{_QE_ATTRIBUTES.hex()} and no MISCSELECT",
        f"{masked.hex()} and {report.misc_select:#x}",
        holds=masked == _QE_ATTRIBUTES and report.misc_select == 0,
    )
    claims.compare(
        "qe.isv_svn",
        f"{tcb.qe_isv_svn} or above",
        str(report.isv_svn),
        holds=report.isv_svn >= tcb.qe_isv_svn,
    )


def _check_module(body: TdReportBody, measured: TdxMeasurements, claims: ClaimList) -> None:
    # Step 9
    _compare(claims, "td.mrsignerseam", ZERO_MEASUREMENT, body.mrsignerseam)
    claims.compare(
        "td.seam_attributes", "0", f"{body.seam_attributes:#x}", holds=body.seam_attributes == 0
    )
    claims.compare(
        "td.mrseam",
        list_known(tuple(one.hex() for one in measured.mrseam)),
        body.mrseam.hex(),
        holds=body.mrseam in measured.mrseam,
    )
    _at_least(claims, "td.tee_tcb_svn", measured.tcb.tee_tcb_svn, body.tee_tcb_svn)
    if body.tee_tcb_svn_2 is not None:  # of the module that runs now, after an update under guests
        _at_least(claims, "td.tee_tcb_svn", measured.tcb.tee_tcb_svn, body.tee_tcb_svn_2)


def _check_domain(body: TdReportBody, measured: TdxMeasurements, claims: ClaimList) -> None:
    # Step 10
    claims.compare(
        "td.debug", "off", f"{body.td_attributes:#x}", holds=not body.td_attributes & _DEBUG
    )
    claims.compare(
        "td.attributes",
        f"{measured.td_attributes:#x}",
        f"{body.td_attributes:#x}",
        holds=body.td_attributes == measured.td_attributes,
    )
    claims.compare(
        "td.xfam", f"{measured.xfam:#x}", f"{body.xfam:#x}", holds=body.xfam == measured.xfam
    )
    # Step 11; RTMR 1 and 2 in `check_registers`, which knows their events.
    _compare(claims, "td.mrtd", measured.mrtd, body.mrtd)


def _check_initdata(
    body: TdReportBody,
    digest: bytes | None,
    listed: tuple[RegisteredInitdata, ...],
    claims: ClaimList,
) -> RegisteredInitdata | None:
    # Step 13; without a document MRCONFIGID selects one.
    if digest is not None:
        _compare(claims, "td.mrconfigid", digest, body.mrconfigid)
    # Step 14
    wanted = body.mrconfigid if digest is None else digest
    found = next((known for known in listed if known.sha384 == wanted), None)
    names = tuple(f"{known.sha384.hex()} ({known.name})" for known in listed)
    claims.compare("initdata.digest", list_known(names), wanted.hex(), holds=found is not None)
    return found


def _check_unused(body: TdReportBody, claims: ClaimList) -> None:
    # Step 15
    _compare(claims, "td.mrowner", ZERO_MEASUREMENT, body.mrowner)
    _compare(claims, "td.mrownerconfig", ZERO_MEASUREMENT, body.mrownerconfig)
    if body.mrservicetd is not None:
        _compare(claims, "td.mrservicetd", ZERO_MEASUREMENT, body.mrservicetd)


def _closest(body: TdReportBody, sets: tuple[ReferenceSet, ...]) -> ReferenceSet | None:
    """Return the set with the fewest differences, so that the log shows no more than these."""
    values = (body.mrtd, *body.rtmrs[1:3])

    def agreement(known: ReferenceSet) -> int:
        (identity,) = known.measured.identities
        return sum(ours == theirs for ours, theirs in zip(identity, values, strict=True))

    return max(
        (known for known in sets if known.measured.tee is Tee.TDX), key=agreement, default=None
    )


def _compare(claims: ClaimList, name: str, expected: bytes, got: bytes) -> None:
    claims.compare(name, expected.hex(), got.hex(), holds=expected == got)


def _at_least(claims: ClaimList, name: str, floor: bytes, got: bytes) -> None:
    """Compare version numbers component by component."""
    holds = all(ours <= theirs for ours, theirs in zip(floor, got, strict=True))
    claims.compare(name, f"{floor.hex()} or above in each byte", got.hex(), holds=holds)


def _check_signature(
    claims: ClaimList,
    name: str,
    key: ec.EllipticCurvePublicKey | None,
    signature: bytes,
    signed: bytes,
) -> None:
    holds, got = key is not None, "verifies" if key is not None else "no key to verify it with"
    if key is not None:
        half = len(signature) // 2
        r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        try:
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
        except InvalidSignature:
            holds, got = False, "does not verify"
    claims.compare(name, "verifies", got, holds=holds)


def _attestation_key(raw: bytes) -> ec.EllipticCurvePublicKey | None:
    """Return the key of a quote; None if it is no point of the curve."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + raw)
    except ValueError:
        return None


def _measured(body: TdReportBody) -> dict[str, dict[str, str]]:
    registers = {str(index): value.hex() for index, value in enumerate(body.rtmrs)}
    return {"td": {"mrtd": body.mrtd.hex()}, "rtmr": registers}


def _token_claims(quote: TdxQuote) -> dict[str, JsonValue]:
    """Return the members of Trustee's claims that say something about this domain."""
    body = quote.body
    return {
        "quote": {
            "header": {
                "version": quote.version.to_bytes(2, "little").hex(),
                "att_key_type": "0200",
                "tee_type": "81000000",
                "vendor_id": quote.qe_vendor_id.hex(),
            },
            "body": {
                "mr_td": body.mrtd.hex(),
                "mr_config_id": body.mrconfigid.hex(),
                "mr_owner": body.mrowner.hex(),
                "mr_owner_config": body.mrownerconfig.hex(),
                "mr_seam": body.mrseam.hex(),
                "mrsigner_seam": body.mrsignerseam.hex(),
                "report_data": body.report_data.hex(),
                "seam_attributes": body.seam_attributes.to_bytes(8, "little").hex(),
                "tcb_svn": body.tee_tcb_svn.hex(),
                "td_attributes": body.td_attributes.to_bytes(8, "little").hex(),
                "xfam": body.xfam.to_bytes(8, "little").hex(),
                **{f"rtmr_{index}": value.hex() for index, value in enumerate(body.rtmrs)},
            },
        },
        "td_attributes": {"debug": bool(body.td_attributes & _DEBUG)},
    }
