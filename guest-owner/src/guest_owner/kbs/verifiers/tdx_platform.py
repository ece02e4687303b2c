"""Steps 7 to 10 of judging TDX evidence: the machine, its enclaves and module, the domain.

 7. Requirements are registered; the platform is one of their machines, at least at their versions,
    and not one that they revoke [`td.requirements`, `pck.fmspc`, `pck.ppid`, `pck.cpu_svn`,
    `pck.pce_svn`].
 8. The quoting enclave is as required: signer, product, attributes, version [`qe.mrsigner`,
    `qe.product`, `qe.attributes`, `qe.isv_svn`].
 9. The TDX module is Intel's and a registered one, at the registered version or above
    [`td.mrsignerseam`, `td.seam_attributes`, `td.mrseam`, `td.tee_tcb_svn`].
10. The domain has the registered attributes and features, and is never debuggable [`td.debug`,
    `td.attributes`, `td.xfam`].

What is demanded is `guest_owner.kbs.references.tdx_requirements`.
"""

from ccinit.formats.evidence.tdx_quote import QeReport, TdxQuote, parse_qe_report
from ccinit.formats.evidence.tdx_report import ZERO_MEASUREMENT, TdReportBody
from guest_owner.kbs.appraisal import NOTHING, ClaimList, list_known
from guest_owner.kbs.references.requirements import Requirements
from guest_owner.kbs.references.tdx_requirements import TdxRequirements, TdxTcb
from guest_owner.kbs.verifiers.pck import PckPlatform

DEBUG = 1  # TD attribute
_QE_PRODUCT = 2  # the quoting enclave for trust domains
# What Intel's QE Identity for it says: initialised, with the provisioning key, not debuggable. The
# mask leaves open 64-bit mode (bit 2) and XFRM, which depends on the processor. No MISCSELECT.
_QE_ATTRIBUTES = bytes((0x11,)) + bytes(15)
_QE_ATTRIBUTES_MASK = b"\xfb" + b"\xff" * 7 + bytes(8)


def check_platform(
    quote: TdxQuote,
    pck: PckPlatform | None,
    requirements: tuple[Requirements, ...],
    claims: ClaimList,
) -> None:
    """Make steps 7 to 10.

    Args:
        quote: authentic or not; the caller knows.
        pck: what the PCK certificate says; None if it has failed already.
        requirements: registered ones of all platforms.
        claims: takes the comparisons.
    """
    demanded = next((known for known in requirements if isinstance(known, TdxRequirements)), None)
    if demanded is None:
        claims.compare("td.requirements", "registered requirements", NOTHING, holds=False)
        return
    if pck is not None:
        _check_machine(pck, demanded.tcb, claims)
    report = parse_qe_report(quote.certification.report)
    _check_quoting_enclave(report, demanded.tcb, claims)
    _check_module(quote.body, demanded, claims)
    _check_domain(quote.body, demanded, claims)


def _check_machine(platform: PckPlatform, tcb: TdxTcb, claims: ClaimList) -> None:
    # Step 7
    claims.compare(
        "pck.fmspc",
        list_known(tuple(one.hex() for one in tcb.fmspc)),
        platform.fmspc.hex(),
        holds=platform.fmspc in tcb.fmspc,
    )
    claims.compare(
        "pck.ppid",
        f"none of {len(tcb.revoked_ppids)} revoked machines",
        platform.ppid.hex(),
        holds=platform.ppid not in tcb.revoked_ppids,
    )
    _at_least(claims, "pck.cpu_svn", tcb.cpu_svn, platform.components)
    claims.compare(
        "pck.pce_svn",
        f"{tcb.pce_svn} or above",
        str(platform.pce_svn),
        holds=platform.pce_svn >= tcb.pce_svn,
    )


def _check_quoting_enclave(report: QeReport, tcb: TdxTcb, claims: ClaimList) -> None:
    # Step 8
    claims.compare_bytes("qe.mrsigner", tcb.qe_mrsigner, report.mrsigner)
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


def _check_module(body: TdReportBody, demanded: TdxRequirements, claims: ClaimList) -> None:
    # Step 9
    claims.compare_bytes("td.mrsignerseam", ZERO_MEASUREMENT, body.mrsignerseam)
    claims.compare(
        "td.seam_attributes", "0", f"{body.seam_attributes:#x}", holds=body.seam_attributes == 0
    )
    claims.compare(
        "td.mrseam",
        list_known(tuple(one.hex() for one in demanded.mrseam)),
        body.mrseam.hex(),
        holds=body.mrseam in demanded.mrseam,
    )
    _at_least(claims, "td.tee_tcb_svn", demanded.tcb.tee_tcb_svn, body.tee_tcb_svn)
    if body.tee_tcb_svn_2 is not None:  # of the module that runs now, after an update under guests
        _at_least(claims, "td.tee_tcb_svn", demanded.tcb.tee_tcb_svn, body.tee_tcb_svn_2)


def _check_domain(body: TdReportBody, demanded: TdxRequirements, claims: ClaimList) -> None:
    # Step 10
    claims.compare(
        "td.debug", "off", f"{body.td_attributes:#x}", holds=not body.td_attributes & DEBUG
    )
    claims.compare(
        "td.attributes",
        f"{demanded.td_attributes:#x}",
        f"{body.td_attributes:#x}",
        holds=body.td_attributes == demanded.td_attributes,
    )
    claims.compare(
        "td.xfam", f"{demanded.xfam:#x}", f"{body.xfam:#x}", holds=body.xfam == demanded.xfam
    )


def _at_least(claims: ClaimList, name: str, floor: bytes, got: bytes) -> None:
    """Compare version numbers component by component."""
    holds = all(ours <= theirs for ours, theirs in zip(floor, got, strict=True))
    claims.compare(name, f"{floor.hex()} or above in each byte", got.hex(), holds=holds)
