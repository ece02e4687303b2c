"""A quote that a machine of Intel's made: what generated ones are modelled on is as it is there."""

from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.formats.evidence.tdx_quote import TdxQuote, parse_qe_report, parse_tdx_quote
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import ClaimList
from guest_owner.kbs.references.roots import parse_certificates
from guest_owner.kbs.references.tdx_requirements import TdxRequirements, TdxTcb
from guest_owner.kbs.references.values import RegisteredRoot
from guest_owner.kbs.verifiers.pck import PckPlatform
from guest_owner.kbs.verifiers.tdx import check_origin
from guest_owner.kbs.verifiers.tdx_platform import check_platform

VECTORS = Path("tests/vectors/intel")
QUOTE = bytes.fromhex((VECTORS / "tdx_quote.hex").read_text())
SIGNED_BYTES = 632
ROOT = RegisteredRoot(
    name="intel",
    platform=Tee.TDX,
    certificates=parse_certificates((VECTORS / "sgx-root-ca.pem").read_bytes()),
)


def judge_origin(quote: TdxQuote) -> tuple[PckPlatform | None, set[str]]:
    """Return the platform, and the names of claims that do not hold."""
    claims = ClaimList()
    platform = check_origin(quote, (ROOT,), claims)
    return platform, {claim.name for claim in claims.made if not claim.holds}


def test_quote_is_authentic() -> None:
    platform, refused = judge_origin(parse_tdx_quote(QUOTE))
    assert not refused
    assert platform is not None
    assert platform.fmspc.hex() == "20a06f000000"
    assert platform.components.hex() == "0202020202ff00020000000000000000"
    assert platform.pce_svn == 13
    assert platform.root == ROOT.certificates[0]


def test_platform_passes_requirements_that_name_it() -> None:
    quote = parse_tdx_quote(QUOTE)
    platform, _ = judge_origin(quote)
    assert platform is not None
    enclave = parse_qe_report(quote.certification.report)
    tcb = TdxTcb(
        fmspc=(platform.fmspc,),
        tee_tcb_svn=bytes((7, 1, 3)) + bytes(13),
        cpu_svn=platform.components,
        pce_svn=13,
        qe_mrsigner=enclave.mrsigner,
        qe_isv_svn=6,
    )
    demanded = TdxRequirements(
        xfam=0x207, td_attributes=1 << 28, mrseam=(quote.body.mrseam,), tcb=tcb
    )
    claims = ClaimList()
    check_platform(quote, platform, (demanded,), claims)
    assert claims.all_hold, [claim for claim in claims.made if not claim.holds]
    newer = replace(demanded, tcb=replace(tcb, qe_isv_svn=7))
    check_platform(quote, platform, (newer,), claims)
    assert [claim.name for claim in claims.made if not claim.holds] == ["qe.isv_svn"]


@pytest.mark.parametrize("position", [48, 48 + 184, SIGNED_BYTES - 1])
def test_quote_with_another_body_is_not_authentic(position: int) -> None:
    changed = bytearray(QUOTE)
    changed[position] ^= 1
    _, refused = judge_origin(parse_tdx_quote(bytes(changed)))
    assert refused == {"quote.signature"}
