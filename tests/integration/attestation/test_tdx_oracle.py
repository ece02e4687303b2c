"""Generated TDX quotes as an independent library (dcap-qvl) reads and verifies them.

The fake stands in for hardware in every other test, so here it is held against somebody else's
reading of Intel's tables, field by field, and against their verifier, with generated collateral.
"""

import time

import dcap_qvl  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.formats.evidence.tdx_quote import parse_tdx_quote
from guest_owner.kbs.verifiers.pck import load_chain, read_platform
from tests.fakes.platforms import tdx_collateral as collateral
from tests.fakes.platforms.tdx_quote import FakeTdx, measurement

BYTES = {
    "tee_tcb_svn": "tee_tcb_svn",
    "mr_seam": "mrseam",
    "mr_signer_seam": "mrsignerseam",
    "mr_td": "mrtd",
    "mr_config_id": "mrconfigid",
    "mr_owner": "mrowner",
    "mr_owner_config": "mrownerconfig",
    "report_data": "report_data",
}
NUMBERS = ("seam_attributes", "td_attributes", "xfam")


@pytest.mark.parametrize(("version", "body_type"), [(4, 2), (5, 2), (5, 3)])
def test_both_read_the_same_quote(version: int, body_type: int) -> None:
    domain = FakeTdx(
        version=version,
        body_type=body_type,
        tee_tcb_svn=bytes(range(16)),
        tee_tcb_svn_2=bytes(range(16, 32)),
        seam_attributes=0x0102030405060708,
        td_attributes=0x1112131415161718,
        xfam=0x2122232425262728,
        rtmrs=[measurement(f"rtmr {index}") for index in range(4)],
        mrservicetd=measurement("service"),
    )
    for name in BYTES.values():
        if name.startswith("mr"):
            setattr(domain, name, measurement(name))
    encoded = domain.quote(bytes(range(64)))
    theirs, ours = dcap_qvl.Quote.parse(encoded), parse_tdx_quote(encoded)
    assert (theirs.is_tdx(), theirs.header.version) == (True, ours.version)
    assert theirs.header.qe_vendor_id == ours.qe_vendor_id
    for their_name, our_name in BYTES.items():
        assert getattr(theirs.report, their_name) == getattr(ours.body, our_name), our_name
    for name in NUMBERS:
        their_number = int.from_bytes(getattr(theirs.report, name), "little")
        assert their_number == getattr(ours.body, name), name
    for index in range(4):
        assert getattr(theirs.report, f"rt_mr{index}") == ours.body.rtmrs[index]
    if body_type == 3:
        assert theirs.report.tee_tcb_svn2 == ours.body.tee_tcb_svn_2
        assert theirs.report.mr_service_td == ours.body.mrservicetd


def test_both_read_the_same_platform() -> None:
    encoded = FakeTdx().quote(bytes(64))
    theirs = dcap_qvl.Quote.parse(encoded).pck_extension()
    ours = read_platform(load_chain(parse_tdx_quote(encoded).certification.chain_pem)[0])
    assert (theirs.fmspc, theirs.cpu_svn, theirs.pce_svn) == (
        ours.fmspc,
        ours.components,
        ours.pce_svn,
    )


def verify_independently(quote: bytes) -> str:
    """Let Intel's procedure, with collateral, decide; return the TCB status."""
    domain = FakeTdx()
    root_list, platform_list = collateral.revocations(domain.pck)
    tcb_info, identity = collateral.tcb_info(domain), collateral.qe_identity()
    signers = collateral.signing_chain(domain.pck)
    verified = dcap_qvl.verify_with_root_ca(
        quote,
        dcap_qvl.QuoteCollateralV3(
            pck_crl_issuer_chain=collateral.platform_chain(domain.pck),
            root_ca_crl=root_list,
            pck_crl=platform_list,
            tcb_info_issuer_chain=signers,
            tcb_info=tcb_info.text,
            tcb_info_signature=tcb_info.signature,
            qe_identity_issuer_chain=signers,
            qe_identity=identity.text,
            qe_identity_signature=identity.signature,
        ),
        domain.pck.root_certificate.public_bytes(Encoding.DER),
        int(time.time()),
    )
    return str(verified.status)


@pytest.mark.parametrize(("version", "body_type"), [(4, 2), (5, 2), (5, 3)])
def test_independent_verifier_accepts_the_generated_quote(version: int, body_type: int) -> None:
    quote = FakeTdx(version=version, body_type=body_type).quote(bytes(64))
    assert verify_independently(quote) == "UpToDate"


@pytest.mark.parametrize(
    ("domain", "reason"),
    [
        (FakeTdx(qe_binding=bytes(32)), "QE report hash mismatch"),
        (FakeTdx(quote_signer="another key"), "signature is invalid"),
        (FakeTdx(td_attributes=1 << 28 | 1), "Debug mode is enabled"),
    ],
    ids=["binding", "signature", "debug"],
)
def test_independent_verifier_refuses_what_ours_refuses(domain: FakeTdx, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        verify_independently(domain.quote(bytes(64)))
