"""A token about TDX against registrations and the owner's demands: step 10 of `judge`.

The names are those of `guest_owner.kbs.verifiers.tdx` and `tdx_platform`, where they are explained:
`td.mrtd`, `rtmr.1`, `rtmr.2`, `initdata.digest`, `td.mrowner`, `td.mrownerconfig`,
`td.mrsignerseam`, `td.seam_attributes`, `td.mrseam`, `td.tee_tcb_svn`, `td.debug`, `td.attributes`,
`td.xfam`; `pck.tcb_status` is the issuer's word about machine and quoting enclave. A value that the
token does not show fails. RTMR 0 and 3 are not judged: that takes an event log.
"""

from ccinit.formats.evidence.tdx_report import ZERO_MEASUREMENT
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import NOTHING, ClaimList, list_known
from guest_owner.kbs.passports.issuer import TdxDemands
from guest_owner.kbs.passports.statement import TdxStatement
from guest_owner.kbs.references.measurements.tdx import TdxMeasurements
from guest_owner.kbs.references.values import References, ReferenceSet, RegisteredInitdata
from guest_owner.kbs.shown import show
from guest_owner.kbs.verifiers.document import check_document
from guest_owner.kbs.verifiers.tdx import closest_image


def judge_tdx(
    about: TdxStatement, demands: TdxDemands, references: References, claims: ClaimList
) -> tuple[ReferenceSet | None, RegisteredInitdata | None]:
    """Make every comparison; return the image and the document, as far as they are registered."""
    reference = _check_image(about, references.sets, claims)
    initdata = check_document(Tee.TDX, about.mrconfigid, references.initdata, claims)
    for name, value in (
        ("mrowner", about.mrowner),
        ("mrownerconfig", about.mrownerconfig),
        ("mrsignerseam", about.mrsignerseam),
    ):
        _compare(f"td.{name}", ZERO_MEASUREMENT, value, claims)
    _compare("td.seam_attributes", bytes(8), about.seam_attributes, claims)
    _check_module(about, demands, claims)
    _check_domain(about, demands, claims)
    status = about.tcb_status
    claims.compare(
        "pck.tcb_status",
        list_known(demands.tcb_status),
        show(status),
        holds=status in demands.tcb_status,
    )
    return reference, initdata


def _check_image(
    about: TdxStatement, sets: tuple[ReferenceSet, ...], claims: ClaimList
) -> ReferenceSet | None:
    reference = closest_image((about.mrtd, *about.rtmrs.values()), sets)
    measured = None if reference is None else reference.measured
    if not isinstance(measured, TdxMeasurements):
        claims.compare("td.mrtd", NOTHING, show(about.mrtd), holds=False)
        return None
    _compare("td.mrtd", measured.mrtd, about.mrtd, claims)
    for index, value in about.rtmrs.items():
        _compare(f"rtmr.{index}", measured.rtmr(index), value, claims)
    return reference


def _check_module(about: TdxStatement, demands: TdxDemands, claims: ClaimList) -> None:
    claims.compare(
        "td.mrseam",
        list_known(tuple(one.hex() for one in demands.mrseam)),
        show(about.mrseam),
        holds=about.mrseam in demands.mrseam,
    )
    floor, got = demands.tee_tcb_svn, about.tee_tcb_svn
    claims.compare(
        "td.tee_tcb_svn",
        f"{floor.hex()} or above in each byte",
        show(got),
        holds=got is not None
        and all(ours <= theirs for ours, theirs in zip(floor, got, strict=True)),
    )


def _check_domain(about: TdxStatement, demands: TdxDemands, claims: ClaimList) -> None:
    claims.compare("td.debug", "off", show(about.debug), holds=about.debug is False)
    for name, demanded, got in (
        ("attributes", demands.td_attributes, about.td_attributes),
        ("xfam", demands.xfam, about.xfam),
    ):
        _compare(f"td.{name}", demanded.to_bytes(8, "little"), got, claims)


def _compare(name: str, expected: bytes, got: bytes | None, claims: ClaimList) -> None:
    claims.compare(name, expected.hex(), show(got), holds=got == expected)
