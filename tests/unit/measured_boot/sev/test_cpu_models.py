import pytest
from sevsnpmeasure.vcpu_types import CPU_SIGS  # type: ignore[import-untyped]

from ccinit.errors import ConfigError
from measured_boot.sev.cpu_models import CPU_MODELS, find_signature, pack_signature

LATER = {
    *("EPYC-v5", "EPYC-Rome-v4", "EPYC-Rome-v5", "EPYC-Milan-v3", "EPYC-Milan-v4"),
    *("EPYC-Genoa-v2", "EPYC-Genoa-v3", "EPYC-Turin-v1", "EPYC-Turin-v2"),
}
"""Models of QEMU that the other program lacks (integration/measurement/test_cpu_models.py)."""


def test_models_are_the_other_programs() -> None:
    assert {name: CPU_MODELS[name] for name in CPU_MODELS.keys() - LATER} == CPU_SIGS
    assert not LATER & CPU_SIGS.keys()


def test_pack_signature_is_amds_own_example() -> None:
    # CPUID Fn0000_0001_EAX of a Milan processor, as its revision guide prints it
    assert pack_signature(25, 1, 1) == 0x00A00F11


def test_find_signature_unknown_model_is_refused_with_the_known_ones() -> None:
    assert find_signature("EPYC-Milan") == 0x00A00F11
    with pytest.raises(ConfigError) as error:
        find_signature("host")
    assert error.value.reason == "cpu_model.unknown"
    assert all(model in error.value.detail for model in CPU_MODELS)
