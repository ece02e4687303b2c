"""What an owner may demand of SEV-SNP, and what no such file may say."""

from collections.abc import Mapping

import pytest

from ccinit.errors import FormatError
from ccinit.formats.evidence.snp_report import PlatformBit, PolicyBit, TcbVersion
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.references import requirements
from guest_owner.kbs.references.requirements import (
    PERMISSIONS,
    PROMISES,
    STATES,
    IdBlock,
    ParavisorRequirements,
    SnpProduct,
    SnpRequirements,
    parse_requirements,
)

PRODUCT = '[[product]]\nname = "Milan"\nbootloader = 4\ntee = 0\nsnp = 24\nmicrocode = 219\n'
LEAST = "version = 1\n" + PRODUCT
TURIN = '[[product]]\nname = "Turin"\nfmc = 1\nbootloader = 2\ntee = 0\nsnp = 3\nmicrocode = 80\n'


def test_file_that_says_least_demands_the_strictest() -> None:
    demanded = parse_requirements(LEAST.encode(), Tee.SNP)
    assert isinstance(demanded, SnpRequirements)
    assert demanded.floors == {
        SnpProduct.MILAN: TcbVersion(fmc=None, bootloader=4, tee=0, snp=24, microcode=219)
    }
    assert demanded.allowed == PolicyBit(0)
    assert (demanded.report_version, demanded.mitigations) == (2, 0)
    assert (demanded.csp_ids, demanded.revoked_chips) == (frozenset(), frozenset())
    assert demanded.id_block == IdBlock()


def test_file_that_says_everything_is_read() -> None:
    text = (
        f"version = 1\nreport_version = 3\nmitigations = 5\n"
        f'csp_ids = ["CN=cloud"]\nrevoked_chips = ["{"c1" * 64}"]\n{PRODUCT}{TURIN}'
        '[policy]\nallow = ["smt", "cxl"]\nrequire = ["single-socket"]\n'
        '[platform]\nrequire = ["alias-check", "iommu-write-safe"]\n'
        f'[id_block]\nkeys = ["{"ab" * 48}"]\nauthor_keys = ["{"cd" * 48}"]\nguest_svn = 7\n'
    )
    demanded = parse_requirements(text.encode(), Tee.SNP)
    assert isinstance(demanded, SnpRequirements)
    assert demanded.floors[SnpProduct.TURIN].fmc == 1
    assert demanded.allowed == PolicyBit.SMT | PolicyBit.CXL
    assert demanded.promised == PolicyBit.SINGLE_SOCKET
    assert demanded.states == PlatformBit.ALIAS_CHECKED | PlatformBit.IOMMU_WRITE_SAFE
    assert (demanded.report_version, demanded.mitigations) == (3, 5)
    assert demanded.csp_ids == {"CN=cloud"}
    assert demanded.revoked_chips == {b"\xc1" * 64}
    assert demanded.id_block == IdBlock(
        keys=frozenset((b"\xab" * 48,)), author_keys=frozenset((b"\xcd" * 48,)), guest_svn=7
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "requirements.version"),
        ("version = 1", "requirements.product"),
        (LEAST + PRODUCT.replace("snp = 24", "snp = 3"), "requirements.product"),
        ("version = 2\n" + PRODUCT, "requirements.version"),
        (LEAST + "colour = 1", "requirements.product.unknown"),
        (LEAST + "fmc = 1", "requirements.product.unknown"),
        (LEAST.replace("Milan", "Naples"), "requirements.product.name"),
        (LEAST.replace("219", "256"), "requirements.product.microcode"),
        (LEAST.replace("snp = 24\n", ""), "requirements.product.snp"),
        (LEAST + TURIN.replace("fmc = 1\n", ""), "requirements.product.fmc"),
        (LEAST + '[policy]\nallow = ["debug"]', "requirements.policy.allow"),
        (LEAST + '[policy]\nrequire = ["smt"]', "requirements.policy.require"),
        (LEAST + '[platform]\nrequire = ["smt"]', "requirements.platform.require"),
        (LEAST + '[id_block]\nkeys = ["ab"]', "requirements.id_block.keys"),
        ("version = 1\nreport_version = 6\n" + PRODUCT, "requirements.report_version"),
        ('version = 1\nrevoked_chips = ["c1"]\n' + PRODUCT, "requirements.revoked_chips"),
        ("version = ", "requirements.toml"),
        (LEAST.replace("219", "9" * 5000), "requirements.toml"),
        ("#" * 70_000, "requirements.length"),
    ],
)
def test_parse_requirements_refuses(text: str, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_requirements(text.encode(), Tee.SNP)
    assert caught.value.reason == reason


def test_azure_demands_hardware_and_a_paravisor() -> None:
    text = f'paravisor = ["{"ab" * 48}"]\n'
    demanded = parse_requirements((text + LEAST).encode(), Tee.AZ_SNP_VTPM)
    assert isinstance(demanded, ParavisorRequirements)
    assert (demanded.tee, demanded.paravisors) == (Tee.AZ_SNP_VTPM, (b"\xab" * 48,))
    assert demanded.hardware == parse_requirements(LEAST.encode(), Tee.SNP)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LEAST, "requirements.paravisor"),
        ("paravisor = []\n" + LEAST, "requirements.paravisor"),
        ('paravisor = ["ab"]\n' + LEAST, "requirements.paravisor"),
        (f'paravisor = ["{"ab" * 48}"]\nversion = 1', "requirements.product"),
    ],
)
def test_azure_without_one_of_both_is_refused(text: str, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_requirements(text.encode(), Tee.AZ_SNP_VTPM)
    assert caught.value.reason == reason


def test_nothing_is_demanded_of_a_platform_without_a_vendor() -> None:
    with pytest.raises(FormatError) as caught:
        parse_requirements(LEAST.encode(), Tee.TPM)
    assert caught.value.reason == "requirements.platform"


@pytest.mark.parametrize("table", [PERMISSIONS, PROMISES, STATES])
def test_form_that_is_shown_names_all_that_may_stand_there(table: Mapping[str, int]) -> None:
    shown = requirements.__doc__ or ""
    assert [name for name in table if name not in shown] == []
