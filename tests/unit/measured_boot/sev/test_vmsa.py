import pytest
from sevsnpmeasure.sev_mode import SevMode  # type: ignore[import-untyped]
from sevsnpmeasure.vmsa import VMSA  # type: ignore[import-untyped]

from measured_boot.sev.cpu_models import CPU_MODELS
from measured_boot.sev.vmsa import BOOT_PROCESSOR_ENTRY, encode_vmsa


@pytest.mark.parametrize("model", ["EPYC-v4", "EPYC-Genoa"])
@pytest.mark.parametrize("features", [0, 1, 0x21])
def test_encode_vmsa_is_the_other_programs_page(model: str, features: int) -> None:
    signature = CPU_MODELS[model]
    theirs = list(VMSA(SevMode.SEV_SNP, 0x80B004, signature, features).pages(2))
    assert encode_vmsa(BOOT_PROCESSOR_ENTRY, signature, features) == theirs[0]
    assert encode_vmsa(0x80B004, signature, features) == theirs[1]
