"""Evidence that a confidential VM of Azure's gave: what is generated elsewhere, as it is there."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ccinit import values
from ccinit.formats.evidence.azure import AzureEvidence, parse_azure_evidence
from ccinit.formats.evidence.hcl_report import HardwareKind, parse_hcl_report
from ccinit.formats.evidence.snp_report import TcbVersion, parse_snp_report
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.references import References, RegisteredRoot
from guest_owner.kbs.requirements import parse_requirements
from guest_owner.kbs.roots import parse_certificates
from guest_owner.kbs.verifiers.table import verify_evidence

VECTORS = Path("tests/vectors")
TEXT = json.loads((VECTORS / "azure/snp_evidence.json").read_text())
EVIDENCE = parse_azure_evidence(Tee.AZ_SNP_VTPM, TEXT)
REPORT_DATA = bytes.fromhex(
    "982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9a"
    "a398f647caa2338748cd0fd9f5f819ef"
)
REQUIREMENTS = b"""
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
# No registered image or document has these.
UNKNOWN_REGISTERS = {"pcr.4", "pcr.9", "pcr.11", "pcr.12", "initdata.digest"}
HARDWARE_AT = 32


def judge(evidence: AzureEvidence, report_data: bytes = REPORT_DATA) -> tuple[set[str], bool]:
    """The claims that do not hold, and whether the evidence is authentic nevertheless."""
    certificates = parse_certificates((VECTORS / "snp/ask_ark_milan.pem").read_bytes())
    references = References(
        sets=(),
        roots=(RegisteredRoot(name="amd", platform=Tee.AZ_SNP_VTPM, certificates=certificates),),
        requirements=(parse_requirements(REQUIREMENTS, Tee.AZ_SNP_VTPM),),
        initdata=(),
    )
    with pytest.raises(EvidenceRefusedError) as caught:
        verify_evidence(
            Tee.AZ_SNP_VTPM,
            evidence.to_json_value(),
            report_data=report_data,
            initdata_digest=None,
            references=references,
        )
    names = {claim.name for claim in caught.value.claims if not claim.holds}
    return names, caught.value.authentic


def test_evidence_is_read_whole() -> None:
    assert EVIDENCE.to_json_value() == TEXT
    hcl = parse_hcl_report(EVIDENCE.hcl_report)
    assert hcl.kind is HardwareKind.SNP
    assert hcl.user_data == REPORT_DATA.ljust(64, b"\0")
    report = parse_snp_report(hcl.hardware)
    assert report.to_bytes() == hcl.hardware
    assert (report.version, report.cpuid_fam_id, report.cpuid_mod_id) == (3, 0x19, 1)
    assert (report.launch_mit_vector, report.vmpl, report.guest_svn) == (None, 0, 12)
    assert report.reported_tcb == TcbVersion(fmc=None, bootloader=4, tee=0, snp=24, microcode=219)
    assert report.report_data == hashlib.sha256(hcl.claims).digest().ljust(64, b"\0")


def test_everything_below_the_guest_is_as_registered() -> None:
    assert judge(EVIDENCE) == (UNKNOWN_REGISTERS, True)


def spoiled(part: str, position: int) -> AzureEvidence:
    data = bytearray(getattr(EVIDENCE, part))
    data[position] ^= 1
    return values.replace(EVIDENCE, **{part: bytes(data)})


def with_other_register() -> AzureEvidence:
    pcrs = list(EVIDENCE.pcrs)
    pcrs[23] = b"\1" + pcrs[23][1:]
    return values.replace(EVIDENCE, pcrs=tuple(pcrs))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda: spoiled("hcl_report", HARDWARE_AT + 0x140), "snp.signature"),
        (lambda: spoiled("hcl_report", EVIDENCE.hcl_report.index(b"console")), "hcl.claims"),
        (lambda: spoiled("signature", 0), "ak.signature"),
        (with_other_register, "quote.pcr_digest"),
    ],
    ids=["hardware", "claims", "quote", "register"],
)
def test_evidence_with_another_byte_is_not_authentic(
    change: Callable[[], AzureEvidence], name: str
) -> None:
    assert judge(change()) == ({name, *UNKNOWN_REGISTERS}, False)


def test_evidence_for_another_nonce_is_not_authentic() -> None:
    names = {"hcl.user_data", "quote.report_data", *UNKNOWN_REGISTERS}
    assert judge(EVIDENCE, REPORT_DATA[::-1]) == (names, False)
