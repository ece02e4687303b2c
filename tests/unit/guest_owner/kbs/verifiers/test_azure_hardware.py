"""Evidence that confidential VMs of Azure's gave: what is generated elsewhere, as it is there."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ccinit import values
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.azure import AzureEvidence, parse_azure_evidence
from ccinit.formats.evidence.hcl_report import HardwareKind, parse_hcl_report
from ccinit.formats.evidence.snp_report import TcbVersion, parse_snp_report
from ccinit.formats.evidence.tdx_quote import parse_tdx_quote
from ccinit.formats.evidence.tdx_report import parse_td_report
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.references.requirements import parse_requirements
from guest_owner.kbs.references.roots import parse_certificates
from guest_owner.kbs.references.values import References, RegisteredRoot
from guest_owner.kbs.verifiers.table import VERIFIERS
from tests.unit.guest_owner.kbs.values import failed

VECTORS = Path("tests/vectors")
HARDWARE_AT = 32
SNP_REQUIREMENTS = b"""
version = 1
report_version = 3
paravisor = [
    "5b0ce64ad1c1f6375dbda5f760b98526ca1bcf91b8195091afc28e7b024251d68fe32e05af34048d6607678cd23283ff",
]
[[product]]
name = "Milan"
bootloader = 4
tee = 0
snp = 24
microcode = 219
[policy]
allow = ["smt"]
[platform]
require = ["ecc", "alias-check"]
[id_block]
keys = [
    "942fd93ebde6ea7a96efadeafc60f1c6b3d10e703b1dafd7555b92f7f3d32d0e006767648cba5b102af3d65756af4177",
]
guest_svn = 12
"""
TDX_REQUIREMENTS = b"""
version = 1
paravisor = [
    "024a32b070383331181619fa387cb4d55d1e38879f989933055ccad5bc2db795d1737b66205949d15469dc8c1ba7ab7b",
]
xfam = "00000000000618e7"
td_attributes = "0000000000000000"
mrseam = [
    "360304d34a16aace0a18e09ad2d07d2b9fd3c174378e5bf108388079827f89ff62acc5f8c473dd40706324834e202946",
]
[tcb]
fmspc = ["00806f050000"]
tee_tcb_svn = "02010600000000000000000000000000"
cpu_svn = "06060202030100030000000000000000"
pce_svn = 11
qe_mrsigner = "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"
qe_isv_svn = 5
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """`unknown`: the claims that cannot hold, because no image, document or nonce is ours."""

    tee: Tee
    file: str
    authorities: str
    requirements: bytes
    report_data: bytes
    unknown: frozenset[str] = frozenset(("pcr.4", "pcr.9", "pcr.11", "pcr.12", "initdata.digest"))

    @property
    def text(self) -> dict[str, JsonValue]:
        """As published, in the form of version 2: version 1 has the same members."""
        published = json.loads((VECTORS / "azure" / self.file).read_text())
        return {**published, "version": 2}

    @property
    def evidence(self) -> AzureEvidence:
        return parse_azure_evidence(self.tee, self.text)

    def spoiled(self, part: str, position: int) -> AzureEvidence:
        data = bytearray(getattr(self.evidence, part))
        data[position] ^= 1
        return values.replace(self.evidence, **{part: bytes(data)})


SNP = Machine(
    tee=Tee.AZ_SNP_VTPM,
    file="snp_evidence.json",
    authorities="snp/ask_ark_milan.pem",
    requirements=SNP_REQUIREMENTS,
    report_data=bytes.fromhex(
        "982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9a"
        "a398f647caa2338748cd0fd9f5f819ef"
    ),
)
TDX = Machine(
    tee=Tee.AZ_TDX_VTPM,
    file="tdx_evidence.json",
    authorities="intel/sgx-root-ca.pem",
    requirements=TDX_REQUIREMENTS,
    report_data=b"challenge",
    unknown=SNP.unknown | {"hcl.user_data"},
)
BOTH = pytest.mark.parametrize("machine", [SNP, TDX], ids=["snp", "tdx"])


def judge(
    machine: Machine, evidence: AzureEvidence, report_data: bytes | None = None
) -> frozenset[str]:
    """The claims that do not hold."""
    certificates = parse_certificates((VECTORS / machine.authorities).read_bytes())
    references = References(
        sets=(),
        roots=(RegisteredRoot(name="vendor", platform=machine.tee, certificates=certificates),),
        requirements=(parse_requirements(machine.requirements, machine.tee),),
        initdata=(),
    )
    with pytest.raises(EvidenceRefusedError) as caught:
        VERIFIERS[machine.tee](
            evidence.to_json_value(),
            report_data=machine.report_data if report_data is None else report_data,
            initdata_digest=None,
            references=references,
        )
    return frozenset(failed(caught.value))


@BOTH
def test_everything_below_the_guest_is_as_registered(machine: Machine) -> None:
    assert machine.evidence.to_json_value() == machine.text
    assert judge(machine, machine.evidence) == machine.unknown


def test_report_of_a_milan_is_read_whole() -> None:
    hcl = parse_hcl_report(SNP.evidence.hcl_report)
    assert hcl.kind is HardwareKind.SNP
    assert hcl.user_data == SNP.report_data.ljust(64, b"\0")
    report = parse_snp_report(hcl.hardware)
    assert report.to_bytes() == hcl.hardware
    assert (report.version, report.cpuid_fam_id, report.cpuid_mod_id) == (3, 0x19, 1)
    assert (report.launch_mit_vector, report.vmpl, report.guest_svn) == (None, 0, 12)
    assert report.reported_tcb == TcbVersion(fmc=None, bootloader=4, tee=0, snp=24, microcode=219)
    assert report.report_data == hashlib.sha256(hcl.claims).digest().ljust(64, b"\0")


def test_report_of_a_domain_is_what_its_module_hashed() -> None:
    hcl = parse_hcl_report(TDX.evidence.hcl_report)
    assert hcl.kind is HardwareKind.TDX
    assert hcl.user_data == bytes(64)
    # REPORTMACSTRUCT: TEE_INFO_HASH is of TDINFO_STRUCT, the last 512 bytes.
    assert hcl.hardware[80:128] == hashlib.sha384(hcl.hardware[512:]).digest()
    report, body = parse_td_report(hcl.hardware), parse_tdx_quote(TDX.evidence.endorsement).body
    assert report.report_data == hashlib.sha256(hcl.claims).digest().ljust(64, b"\0")
    assert (report.td_attributes, report.rtmrs) == (0, (bytes(48),) * 4)
    assert (body.td_attributes, body.xfam, body.report_data) == (0, 0x618E7, report.report_data)


def with_other_register(machine: Machine) -> AzureEvidence:
    pcrs = machine.evidence.pcrs
    return values.replace(machine.evidence, pcrs=(*pcrs[:-1], b"\1" * 32))


def with_other_claims(machine: Machine) -> AzureEvidence:
    return machine.spoiled("hcl_report", machine.evidence.hcl_report.index(b"console"))


@BOTH
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (with_other_claims, "hcl.claims"),
        (lambda machine: machine.spoiled("signature", 0), "ak.signature"),
        (with_other_register, "quote.pcr_digest"),
    ],
    ids=["claims", "quote", "register"],
)
def test_changed_vtpm_is_not_authentic(
    machine: Machine, change: Callable[[Machine], AzureEvidence], name: str
) -> None:
    assert judge(machine, change(machine)) == machine.unknown | {name}


@pytest.mark.parametrize(
    ("machine", "part", "position", "name"),
    [
        (SNP, "hcl_report", HARDWARE_AT + 0x140, "snp.signature"),  # REPORT_ID
        (TDX, "endorsement", 28, "quote.signature"),  # the header's user data
        (TDX, "hcl_report", HARDWARE_AT + 512 + 64, "hcl.hardware"),  # MRCONFIGID
    ],
)
def test_changed_hardware_report_is_not_authentic(
    machine: Machine, part: str, position: int, name: str
) -> None:
    assert judge(machine, machine.spoiled(part, position)) == machine.unknown | {name}


@BOTH
def test_evidence_for_another_nonce_is_not_authentic(machine: Machine) -> None:
    names = machine.unknown | {"hcl.user_data", "quote.report_data"}
    assert judge(machine, machine.evidence, machine.report_data[::-1]) == names
