"""Reports that machines of AMD's signed: what generated ones are modelled on is as it is there."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from ccinit.formats.evidence.snp import Certificate, CertType, SnpEvidence
from ccinit.formats.evidence.snp_report import (
    SIGNED_BYTES,
    PlatformBit,
    PolicyBit,
    SnpReport,
    TcbVersion,
    parse_snp_report,
)
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import ClaimList
from guest_owner.kbs.references.requirements import SnpProduct, parse_requirements
from guest_owner.kbs.references.roots import parse_certificates
from guest_owner.kbs.references.values import RegisteredRoot
from guest_owner.kbs.verifiers.snp import check_origin
from guest_owner.kbs.verifiers.snp_chain import EndorsementKey
from guest_owner.kbs.verifiers.snp_platform import check_platform

VECTORS = Path("tests/vectors/snp")


@dataclass(frozen=True, slots=True)
class Machine:
    report: str
    vcek: str
    authorities: str
    product: SnpProduct
    tcb: TcbVersion
    plat_info: PlatformBit
    chip_id: str
    version: int = 5
    policy: int = 0x30000
    vmpl: int = 0
    kind: CertType = CertType.VCEK

    @property
    def raw(self) -> bytes:
        return bytes.fromhex((VECTORS / self.report).read_text())


GENOA = Machine(
    report="report_genoa.hex",
    vcek="vcek_genoa_v5.pem",
    authorities="ask_ark_genoa.pem",
    product=SnpProduct.GENOA,
    tcb=TcbVersion(fmc=None, bootloader=10, tee=0, snp=27, microcode=88),
    plat_info=PlatformBit(0x25),
    chip_id="e0234bedb3918431f54ee2790787d7af138a67be1e581a223650e810c945342b"
    "c9ae8d1fea83b31c49dc8cc34db4570bcf25bd6d793985693a9f0c2133df33d8",
)
TURIN = Machine(
    report="report_turin.hex",
    vcek="vcek_turin.pem",
    authorities="ask_ark_turin.pem",
    product=SnpProduct.TURIN,
    tcb=TcbVersion(fmc=0, bootloader=1, tee=0, snp=2, microcode=71),
    plat_info=PlatformBit(0x67),
    chip_id="3b42092f69c656d3" + 56 * "00",
)
MILAN = Machine(
    report="report_milan.hex",
    vcek="vcek_milan.pem",
    authorities="ask_ark_milan.pem",
    product=SnpProduct.MILAN,
    tcb=TcbVersion(fmc=None, bootloader=3, tee=0, snp=8, microcode=115),
    plat_info=PlatformBit.SMT,
    chip_id="d49554ec717f4e5b0fe6b143bcf0405bd7ae304727edf46603f2a76aef6a3abc"
    "15d7af38db757039029f0efacfd08e244324884738c72b082e2f87a44d541eb6",
    version=2,
)
# A provider's key, which hides the chip; the guest asked in the name of VMPL 1.
PROVIDER = Machine(
    report="report_milan_v5.hex",
    vcek="vlek_milan.pem",
    authorities="asvk_ark_milan.pem",
    product=SnpProduct.MILAN,
    tcb=TcbVersion(fmc=None, bootloader=4, tee=0, snp=27, microcode=222),
    plat_info=PlatformBit(0x27),
    chip_id=64 * "00",
    policy=PolicyBit.PAGE_SWAP_OFF | 0x30000,
    vmpl=1,
    kind=CertType.VLEK,
)
MACHINES = pytest.mark.parametrize(
    "machine", [MILAN, PROVIDER, GENOA, TURIN], ids=["milan", "provider", "genoa", "turin"]
)
PROVIDER_REQUIREMENTS = """
version = 1
csp_ids = ["%s"]
[[product]]
name = "Milan"
bootloader = 4
tee = 0
snp = 27
microcode = 222
[policy]
allow = ["smt"]
require = ["page-swap-off"]
[platform]
require = ["tsme", "ecc", "alias-check"]
"""


def judge_origin(
    report: SnpReport, vcek: Machine, trusted: Machine
) -> tuple[EndorsementKey | None, set[str]]:
    """Return the key, and the names of claims that do not hold."""
    (leaf,) = parse_certificates((VECTORS / vcek.vcek).read_bytes())
    authorities = parse_certificates((VECTORS / trusted.authorities).read_bytes())
    evidence = SnpEvidence(
        report=report, certificates=(Certificate(cert_type=vcek.kind, data=leaf),)
    )
    root = RegisteredRoot(name="amd", platform=Tee.SNP, certificates=authorities)
    claims = ClaimList()
    key = check_origin(evidence, (root,), claims)
    return key, {claim.name for claim in claims.made if not claim.holds}


@MACHINES
def test_report_is_read_whole(machine: Machine) -> None:
    report = parse_snp_report(machine.raw)
    assert report.to_bytes() == machine.raw
    assert (report.version, report.vmpl) == (machine.version, machine.vmpl)
    assert report.policy == machine.policy
    assert report.reported_tcb == machine.tcb
    assert PlatformBit(report.plat_info) is machine.plat_info
    assert report.chip_id.hex() == machine.chip_id


@MACHINES
def test_report_is_authentic(machine: Machine) -> None:
    key, refused = judge_origin(parse_snp_report(machine.raw), machine, machine)
    assert not refused
    assert key is not None
    assert (key.kind, key.product, key.tcb) == (machine.kind, machine.product, machine.tcb)


@MACHINES
def test_platform_fails_for_no_more_than_missing_requirements(machine: Machine) -> None:
    report = parse_snp_report(machine.raw)
    key, _ = judge_origin(report, machine, machine)
    claims = ClaimList()
    check_platform(report, key, (), claims)
    assert [claim.name for claim in claims.made if not claim.holds] == ["snp.requirements"]


@pytest.mark.parametrize(
    ("provider", "refused"),
    [
        ("CN=cc-us-east-2.amazonaws.com", set()),
        ("CN=cc-eu-west-1.amazonaws.com", {"snp.csp_id"}),
    ],
)
def test_providers_key_stands_for_its_chips_where_it_is_named(
    provider: str, refused: set[str]
) -> None:
    report = parse_snp_report(PROVIDER.raw)
    key, _ = judge_origin(report, PROVIDER, PROVIDER)
    demanded = parse_requirements((PROVIDER_REQUIREMENTS % provider).encode(), Tee.SNP)
    claims = ClaimList()
    check_platform(report, key, (demanded,), claims)
    assert {claim.name for claim in claims.made if not claim.holds} == refused


@MACHINES
@pytest.mark.parametrize("position", [0x50, 0x90, 0xC0, SIGNED_BYTES])
def test_report_with_another_byte_is_not_authentic(machine: Machine, position: int) -> None:
    changed = bytearray(machine.raw)
    changed[position] ^= 1
    _, refused = judge_origin(parse_snp_report(bytes(changed)), machine, machine)
    assert refused == {"snp.signature"}


def test_key_of_another_machine_signed_nothing() -> None:
    key, refused = judge_origin(parse_snp_report(GENOA.raw), TURIN, TURIN)
    assert key is not None
    assert refused == {"snp.signature", "snp.reported_tcb", "snp.chip_id", "snp.cpuid"}


@pytest.mark.parametrize(
    ("signer", "trusted"), [(MILAN, PROVIDER), (PROVIDER, MILAN)], ids=["chip", "provider"]
)
def test_authority_of_one_kind_of_key_vouches_for_no_other(
    signer: Machine, trusted: Machine
) -> None:
    key, refused = judge_origin(parse_snp_report(signer.raw), signer, trusted)
    assert key is None
    assert refused == {"snp.chain"}


def test_authorities_of_another_product_vouch_for_nothing() -> None:
    key, refused = judge_origin(parse_snp_report(TURIN.raw), TURIN, GENOA)
    assert key is None
    assert refused == {"snp.chain"}
