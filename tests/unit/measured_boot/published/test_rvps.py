import base64
import json
from dataclasses import replace

import pytest

from ccinit.errors import ConfigError
from measured_boot.prediction import (
    DirectKernelBoot,
    Machine,
    UkiBoot,
    predict,
    predict_launch,
)
from measured_boot.published.rvps import encode_message, name_values
from measured_boot.tpm.boot_events import EXITS
from measured_boot.tpm.pcr import ZERO_PCR
from tests.fakes.platforms.firmware import FakeFirmware, fake_svsm
from tests.fakes.published.pe_images import kernel_image, uki_image

UKI = UkiBoot(uki=uki_image())
DIRECT = DirectKernelBoot(kernel=kernel_image(), initrd=b"i", command_line="quiet oops=panic")
TDX_DIRECT = predict_launch(DIRECT, "tdx_ovmf-2025.02_direct_qemu-10.1")
TDX_UKI = predict_launch(UKI, "tdx_ovmf-2025.02_stub-257.13_qemu-10.1")
MACHINE = Machine(firmware=FakeFirmware().to_bytes(), cpu_model="EPYC-v4")
SNP = predict_launch(DIRECT, "snp_direct_qemu-10", MACHINE)


def test_name_values_of_a_tpm_is_pcr_11_of_the_uki_only() -> None:
    uki, direct = predict(UKI), predict(DIRECT)
    assert direct.registers[11] == ZERO_PCR
    assert name_values((uki, direct)) == {"tpm_pcr11": [uki.registers[11].hex()]}
    assert name_values((direct,)) == {}


def test_name_values_of_tdx_collects_boot_paths() -> None:
    values = name_values((TDX_UKI, TDX_DIRECT))
    assert values["mr_td"] == [TDX_UKI.registers["mrtd"].hex()]
    for name, register in (("rtmr_1", "rtmr1"), ("rtmr_2", "rtmr2")):
        assert values[name] == [
            TDX_UKI.registers[register].hex(),
            TDX_DIRECT.registers[register].hex(),
        ]


def test_name_values_of_tdx_names_kernel_and_command_line_of_the_direct_boot() -> None:
    values = name_values((TDX_DIRECT, TDX_UKI))
    events = {event.subject: event.wide_digest.hex() for event in TDX_DIRECT.events}
    assert values["tdvfkernel"] == events["kernel"]
    assert values["tdvfkernelparams"] == events["command line"]
    assert "tdvfkernel" not in name_values((TDX_UKI,))
    assert values["tdvfkernel"] not in {event.wide_digest.hex() for event in EXITS}


def test_name_values_of_snp_is_the_launch_digest() -> None:
    expected = {"snp_launch_measurement": [SNP.registers["launch_digest"].hex()]}
    assert name_values((SNP,)) == expected


def test_name_values_of_an_svsm_are_refused_since_its_digest_covers_no_image() -> None:
    machine = replace(MACHINE, svsm=fake_svsm())
    prediction = predict_launch(UKI, "snp-svsm_stub-257.13_qemu-8.0-svsm", machine)
    with pytest.raises(ConfigError) as error:
        name_values((SNP, prediction))
    assert error.value.reason == "rvps.svsm"


@pytest.mark.parametrize("technology", ["sev", "sev-es"])
def test_name_values_of_sev_are_refused_since_nothing_is_compared_with_them(
    technology: str,
) -> None:
    prediction = predict_launch(DIRECT, f"{technology}_direct_qemu-10", MACHINE)
    with pytest.raises(ConfigError) as error:
        name_values((SNP, prediction))
    assert error.value.reason == "rvps.sev"
    assert list(name_values((SNP,))) == ["snp_launch_measurement"]


def test_name_values_of_a_test_image_are_refused() -> None:
    assert name_values((predict(UKI),))
    test_image = predict(UkiBoot(uki=uki_image({".cmdline": b"quiet"})))
    with pytest.raises(ConfigError) as error:
        name_values((predict(UKI), test_image))
    assert error.value.reason == "rvps.profile"


def test_encode_message_carries_the_values() -> None:
    message = json.loads(encode_message({"b": ["1"], "a": "2"}))
    assert (message["version"], message["type"]) == ("0.1.0", "sample")
    assert base64.b64decode(message["payload"]) == b'{"a": "2", "b": ["1"]}'
