import pytest
from sevsnpmeasure.sev_mode import SevMode  # type: ignore[import-untyped]
from sevsnpmeasure.vmsa import VMSA, VMSA_SVSM  # type: ignore[import-untyped]

from measured_boot.sev.cpu_models import CPU_MODELS
from measured_boot.sev.vmsa import BOOT_PROCESSOR_ENTRY, encode_svsm_vmsa, encode_vmsa


@pytest.mark.parametrize("model", ["EPYC-v4", "EPYC-Genoa"])
@pytest.mark.parametrize("features", [0, 1, 0x21])
def test_encode_vmsa_is_the_other_programs_page(model: str, features: int) -> None:
    signature = CPU_MODELS[model]
    theirs = list(VMSA(SevMode.SEV_SNP, 0x80B004, signature, features).pages(2))
    assert encode_vmsa(BOOT_PROCESSOR_ENTRY, signature, features) == theirs[0]
    assert encode_vmsa(0x80B004, signature, features) == theirs[1]


@pytest.mark.parametrize("entry", [0x1000, 0xFFABC123])
def test_encode_svsm_vmsa_is_the_other_programs_page(entry: int) -> None:
    signature = CPU_MODELS["EPYC-Milan"]
    assert [encode_svsm_vmsa(entry, signature)] * 2 == list(VMSA_SVSM(entry, signature).pages(2))
