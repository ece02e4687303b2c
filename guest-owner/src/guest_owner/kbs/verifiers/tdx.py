"""Appraisal of `tdx` evidence: an Intel TDX quote against what the owner registered.

Pure but for the present time, at which certificates have to be valid. Formats are
`ccinit.formats.evidence.tdx_quote`, `tdx_report`, `event_log` and `aael`; beside this are
certificates (`pck`), what is demanded of the platform (`tdx_platform`) and registers
(`tdx_registers`).

The steps, all of them MUST; each failing one becomes a claim with the name in brackets:

     1. The quote is well-formed: version 4 or 5, ECDSA on P-256, of a trust domain, by Intel's
        quoting enclave [`tdx_quote.…`, `tdx_report.…`, `quote.vendor`].
     2. The PCK certificate chains to a registered root of Intel's at the present time, and says
        which platform it belongs to [`pck.chain`, `pck.extension`].
     3. The PCK signed the quoting enclave's report [`qe.signature`].
     4. That report binds the attestation key: SHA-256 over key and authentication data
        [`qe.report_data`].
     5. The attestation key signed header and body [`quote.signature`].
     6. The body's report data is the expected, whole [`quote.report_data`].
  7-10. Machine, quoting enclave, TDX module and domain are as the owner demands:
        `guest_owner.kbs.verifiers.tdx_platform` [`td.requirements`, `pck.…`, `qe.…`, `td.…`].
    11. MRTD, RTMR 1 and RTMR 2 equal *one* registered reference set [`td.mrtd`, `rtmr.1`,
        `rtmr.2`].
    12. Replaying the event log gives RTMR 0, by events of firmware's configuration only, and
        RTMR 3, by events of the guest's own only, none of which says that debug was opened
        [`event_log.…`, `rtmr.0`, `rtmr.3`].
    13. MRCONFIGID is the SHA-384 of the initdata document [`td.mrconfigid`].
    14. That document is on the owner's list [`initdata.digest`].
    15. MROWNER, MROWNERCONFIG and MRSERVICETD are zero: the host built and serves the domain as
        nobody else's [`td.mrowner`, `td.mrownerconfig`, `td.mrservicetd`].

Steps 1 to 6 make the values authentic; 7 to 15 judge them. All steps are made even after one fails,
because the owner who looks for the reason wants the whole list.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tdx import parse_tdx_evidence
from ccinit.formats.evidence.tdx_quote import TdxQuote, parse_qe_report, parse_tdx_quote
from ccinit.formats.evidence.tdx_report import ZERO_MEASUREMENT, TdReportBody
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import NOTHING, AppraisedEvidence, ClaimList
from guest_owner.kbs.references.measurements.tdx import TdxMeasurements
from guest_owner.kbs.references.values import References, ReferenceSet, RegisteredRoot
from guest_owner.kbs.verifiers.document import check_bound_document
from guest_owner.kbs.verifiers.pck import PckPlatform, load_chain, read_platform, verify_chain
from guest_owner.kbs.verifiers.tdx_platform import DEBUG, check_platform
from guest_owner.kbs.verifiers.tdx_registers import check_registers

VENDOR_INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")


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
    platform = check_origin(quote, references.roots_of(Tee.TDX), claims)
    claims.compare_bytes("quote.report_data", report_data, quote.body.report_data)
    authentic = claims.all_hold
    check_platform(quote, platform, references.requirements, claims)
    values = (quote.body.mrtd, *quote.body.rtmrs[1:3])
    reference = closest_image(values, references.sets)
    measured = None if reference is None else reference.measured
    if not isinstance(measured, TdxMeasurements):
        claims.compare("td.mrtd", NOTHING, quote.body.mrtd.hex(), holds=False)
    else:
        # Step 11; RTMR 1 and 2 beside the others, in `check_registers`.
        claims.compare_bytes("td.mrtd", measured.mrtd, quote.body.mrtd)
        check_registers(quote.body, received.event_log, measured, claims)
    # Steps 13 and 14
    held = quote.body.mrconfigid
    initdata = check_bound_document(
        Tee.TDX, "td.mrconfigid", held, initdata_digest, references.initdata, claims
    )
    check_unused(quote.body, claims)
    image, document = claims.settle(reference, initdata, authentic=authentic)
    return AppraisedEvidence(
        tee=Tee.TDX,
        reference=image,
        initdata=document,
        initdata_field=held,
        report_data=report_data,
        measured=_measured(quote.body),
        token_claims=quote_claims(quote),
        claims=tuple(claims.made),
        endorsers=() if platform is None else (platform.root,),
    )


def check_origin(
    quote: TdxQuote, roots: tuple[RegisteredRoot, ...], claims: ClaimList
) -> PckPlatform | None:
    """Make steps 1 to 5; return what the PCK certificate says, None if it says nothing."""
    # Step 1: its form was read; this is the one part of it with a value.
    claims.compare_bytes("quote.vendor", VENDOR_INTEL, quote.qe_vendor_id)
    certification = quote.certification
    # Step 2
    trusted = tuple(certificate for root in roots for certificate in root.certificates)
    pck, platform = None, None
    try:
        chain = load_chain(certification.chain_pem)
        pck, root = verify_chain(chain, trusted)
        platform = replace(read_platform(chain[0]), root=root)
    except FormatError as error:
        claims.fail(error)
    # Step 3
    _check_signature(claims, "qe.signature", pck, certification.signature, certification.report)
    # Step 4
    bound = hashlib.sha256(quote.attestation_key + certification.authentication_data).digest()
    report = parse_qe_report(certification.report)
    claims.compare_bytes("qe.report_data", bound.ljust(64, b"\0"), report.report_data)
    # Step 5
    key = _attestation_key(quote.attestation_key)
    _check_signature(claims, "quote.signature", key, quote.signature, quote.signed)
    return platform


def check_unused(body: TdReportBody, claims: ClaimList) -> None:
    """Make step 15."""
    claims.compare_bytes("td.mrowner", ZERO_MEASUREMENT, body.mrowner)
    claims.compare_bytes("td.mrownerconfig", ZERO_MEASUREMENT, body.mrownerconfig)
    if body.mrservicetd is not None:
        claims.compare_bytes("td.mrservicetd", ZERO_MEASUREMENT, body.mrservicetd)


def closest_image(
    values: Sequence[bytes | None], sets: tuple[ReferenceSet, ...]
) -> ReferenceSet | None:
    """Return the set with the fewest differences, so that the log shows only these.

    Args: values: MRTD, RTMR 1 and RTMR 2.
    """

    def agreement(known: ReferenceSet) -> int:
        (identity,) = known.measured.identities
        return sum(ours == theirs for ours, theirs in zip(identity, values, strict=True))

    return max(
        (known for known in sets if known.measured.tee is Tee.TDX), key=agreement, default=None
    )


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


def quote_claims(quote: TdxQuote) -> dict[str, JsonValue]:
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
        "td_attributes": {"debug": bool(body.td_attributes & DEBUG)},
    }
