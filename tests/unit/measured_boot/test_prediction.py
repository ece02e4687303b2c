import hashlib
from collections.abc import Mapping
from dataclasses import replace

import pytest

from ccinit.errors import ConfigError, FormatError
from measured_boot import platforms
from measured_boot.image.pe import parse_pe
from measured_boot.platforms import PLATFORMS, Boot, Technology
from measured_boot.prediction import (
    DirectKernelBoot,
    LaunchPrediction,
    Machine,
    UkiBoot,
    predict,
    predict_launch,
)
from measured_boot.sev.cpu_models import find_signature
from measured_boot.sev.firmware import parse_sev_firmware
from measured_boot.sev.kernel_hashes import hash_kernel_files
from measured_boot.sev.launch import (
    Processors,
    sev_es_launch_digest,
    sev_launch_digest,
    snp_launch_digest,
)
from measured_boot.sev.svsm import parse_svsm, svsm_launch_digest
from measured_boot.tdx.build_measurement import measure_build
from measured_boot.tdx.firmware import parse_tdx_sections
from measured_boot.tdx.registers import replay_rtmrs
from measured_boot.tpm.direct_boot import predict_direct_boot
from measured_boot.tpm.pcr import replay_events
from measured_boot.tpm.stub import predict_uki
from tests.fakes.platforms.firmware import (
    TDX_LIST_OFFSET,
    TDX_SECTIONS,
    FakeFirmware,
    fake_svsm,
    tdx_list,
)
from tests.fakes.published.pe_images import STUB_MARK, kernel_image, uki_image

DIRECT = DirectKernelBoot(kernel=kernel_image(), initrd=b"initrd", command_line="quiet")


def test_predict_uki_replays_the_stubs_events() -> None:
    prediction = predict(UkiBoot(uki=uki_image()))
    assert prediction.events == predict_uki(parse_pe(uki_image()))
    assert prediction.registers == replay_events(prediction.events)
    assert prediction.platform.boot is Boot.UKI
    assert prediction.command_line == "quiet oops=panic"


def test_registers_that_stay_zero_have_no_name() -> None:
    assert list(predict(UkiBoot(uki=uki_image())).named_registers) == ["pcr4", "pcr9", "pcr11"]
    assert list(predict(DIRECT).named_registers) == ["pcr4", "pcr9"]


def test_predict_direct_replays_the_direct_boots_events() -> None:
    prediction = predict(DIRECT)
    assert prediction.events == predict_direct_boot(parse_pe(kernel_image()), b"initrd", "quiet")
    assert prediction.platform.boot is Boot.DIRECT
    assert prediction.command_line == "quiet"


def test_predict_unknown_stub_is_refused() -> None:
    unknown = uki_image({".sdmagic": STUB_MARK.replace(b"257.13", b"258.1")})
    with pytest.raises(ConfigError) as error:
        predict(UkiBoot(uki=unknown))
    assert error.value.reason == "platform.unknown"


def test_predict_platform_of_the_other_path_is_refused() -> None:
    name = predict(UkiBoot(uki=uki_image())).platform.name
    with pytest.raises(ConfigError) as error:
        predict(DIRECT, name)
    assert error.value.reason == "platform.mismatch"


def test_predict_kernel_as_uki_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        predict(UkiBoot(uki=kernel_image()))
    assert error.value.reason == "stub.version"


FIRMWARE = FakeFirmware(lists={TDX_LIST_OFFSET: tdx_list(TDX_SECTIONS)}).to_bytes()
MACHINE = Machine(firmware=FIRMWARE, vcpus=4, cpu_model="EPYC-Milan", guest_features=0x21)
HASHES = hash_kernel_files(DIRECT.kernel, DIRECT.initrd, DIRECT.command_line)
PROCESSORS = Processors(count=4, signature=find_signature("EPYC-Milan"), features=0x21)
SEV_FIRMWARE = parse_sev_firmware(FIRMWARE)
TDX_DIRECT, TDX_UKI = (row.name for row in PLATFORMS if row.technology is Technology.TDX)
SVSM = "snp-svsm_stub-257.13_qemu-8.0-svsm"
SVSM_MACHINE = Machine(
    firmware=FIRMWARE,
    vcpus=4,
    cpu_model="EPYC-Milan",
    svsm=fake_svsm(),
    variables_bytes=0x84000,
)


@pytest.fixture
def _own_firmware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fake be the build that the platforms of TDX name."""
    digest = hashlib.sha256(FIRMWARE).hexdigest()
    rows = (
        replace(row, firmware=replace(row.firmware, sha256=digest))
        if row.technology is Technology.TDX and row.firmware
        else row
        for row in PLATFORMS
    )
    monkeypatch.setattr(platforms, "PLATFORMS", tuple(rows))


@pytest.mark.parametrize(
    ("platform", "digest", "processors"),
    [
        (
            "snp_direct_qemu-10",
            snp_launch_digest(SEV_FIRMWARE, PROCESSORS, HASHES),
            {"vcpus": 4, "cpu_model": "EPYC-Milan", "guest_features": 0x21},
        ),
        (
            "sev-es_direct_qemu-10",
            sev_es_launch_digest(SEV_FIRMWARE, PROCESSORS, HASHES),
            {"vcpus": 4, "cpu_model": "EPYC-Milan"},
        ),
        ("sev_direct_qemu-10", sev_launch_digest(SEV_FIRMWARE, HASHES), {}),
    ],
)
def test_predict_launch_of_amd_has_the_digest_and_names_what_it_depends_on(
    platform: str, digest: bytes, processors: Mapping[str, str | int]
) -> None:
    prediction = predict_launch(DIRECT, platform, MACHINE)
    assert prediction.registers == {"launch_digest": digest}
    assert prediction.named_registers == prediction.registers
    firmware = {"firmware_sha256": hashlib.sha256(FIRMWARE).hexdigest()}
    assert prediction.inputs == {**firmware, **processors}


@pytest.mark.usefixtures("_own_firmware")
@pytest.mark.parametrize("platform", [TDX_DIRECT, TDX_UKI])
def test_predict_launch_of_intel_has_build_and_boot(platform: str) -> None:
    what = DIRECT if platform == TDX_DIRECT else UkiBoot(uki=uki_image())
    rtmrs = replay_rtmrs(predict(what).events)
    prediction = predict_launch(what, platform, MACHINE)
    assert prediction.registers == {
        "mrtd": measure_build(parse_tdx_sections(FIRMWARE)),
        "rtmr1": rtmrs[1],
        "rtmr2": rtmrs[2],
    }
    assert set(prediction.inputs) == {"firmware_sha256"}


def test_predict_launch_of_intel_needs_no_firmware_whose_measurement_is_known() -> None:
    build = next(row.firmware for row in PLATFORMS if row.name == TDX_DIRECT)
    assert build is not None
    prediction = predict_launch(DIRECT, TDX_DIRECT, None)
    assert prediction.registers["mrtd"].hex() == build.mrtd
    assert prediction.inputs == {"firmware_sha256": build.sha256}


def test_predict_launch_with_an_svsm_has_the_registers_of_its_tpm_beside_the_digest() -> None:
    uki = UkiBoot(uki=uki_image())
    prediction = predict_launch(uki, SVSM, SVSM_MACHINE)
    given = replace(PROCESSORS, features=1)
    assert prediction.registers == {
        "svsm_launch_digest": svsm_launch_digest(
            SEV_FIRMWARE, parse_svsm(fake_svsm()), given, 0x84000
        ),
        **{f"pcr{index}": value for index, value in predict(uki).registers.items()},
    }
    assert prediction.inputs == {
        "firmware_sha256": hashlib.sha256(FIRMWARE).hexdigest(),
        "svsm_sha256": hashlib.sha256(fake_svsm()).hexdigest(),
        "variables_bytes": 0x84000,
        "vcpus": 4,
        "cpu_model": "EPYC-Milan",
    }


@pytest.mark.parametrize(
    ("what", "platform", "machine", "reason"),
    [
        (UkiBoot(uki=uki_image()), SVSM, None, "launch.svsm"),
        (UkiBoot(uki=uki_image()), SVSM, replace(SVSM_MACHINE, svsm=None), "launch.svsm"),
        (UkiBoot(uki=uki_image()), SVSM, replace(SVSM_MACHINE, svsm=FIRMWARE), "svsm.table"),
        (UkiBoot(uki=uki_image()), SVSM, replace(SVSM_MACHINE, svsm=b"IGVM"), "svsm.igvm"),
        (
            UkiBoot(uki=uki_image()),
            SVSM,
            replace(SVSM_MACHINE, guest_features=0x21),
            "launch.features",
        ),
        (UkiBoot(uki=uki_image()), SVSM, replace(SVSM_MACHINE, cpu_model=None), "launch.cpu_model"),
        (DIRECT, SVSM, SVSM_MACHINE, "platform.mismatch"),
        (DIRECT, "snp_direct_qemu-10", SVSM_MACHINE, "launch.svsm"),
        (UkiBoot(uki=uki_image()), TDX_UKI, SVSM_MACHINE, "launch.svsm"),
    ],
)
def test_predict_launch_with_an_svsm_refuses(
    what: UkiBoot | DirectKernelBoot, platform: str, machine: Machine | None, reason: str
) -> None:
    assert predict_launch(UkiBoot(uki=uki_image()), SVSM, SVSM_MACHINE)
    with pytest.raises(ConfigError) as error:
        predict_launch(what, platform, machine)
    assert error.value.reason == reason


def test_predict_launch_memory_is_recorded_and_changes_nothing() -> None:
    def launch(memory_mib: int | None) -> LaunchPrediction:
        return predict_launch(DIRECT, "snp_direct_qemu-10", replace(MACHINE, memory_mib=memory_mib))

    assert launch(4096).registers == launch(None).registers
    assert launch(4096).inputs["memory_mib"] == 4096


@pytest.mark.parametrize(
    ("what", "platform", "machine", "reason"),
    [
        (DIRECT, "snp_direct_qemu-99", MACHINE, "platform.unknown"),
        (DIRECT, "ovmf-2025.02_direct_qemu-10", MACHINE, "platform.mismatch"),
        (UkiBoot(uki=uki_image()), "snp_direct_qemu-10", MACHINE, "platform.mismatch"),
        (DIRECT, TDX_UKI, MACHINE, "platform.mismatch"),
        (DIRECT, TDX_DIRECT, MACHINE, "platform.firmware"),
        (DIRECT, "snp_direct_qemu-10", None, "launch.machine"),
        (DIRECT, "snp_direct_qemu-10", replace(MACHINE, cpu_model=None), "launch.cpu_model"),
        (DIRECT, "sev-es_direct_qemu-10", replace(MACHINE, cpu_model=None), "launch.cpu_model"),
        (DIRECT, "snp_direct_qemu-10", replace(MACHINE, cpu_model="host"), "cpu_model.unknown"),
        (DIRECT, "snp_direct_qemu-10", replace(MACHINE, vcpus=0), "launch.vcpus"),
        (
            DIRECT,
            "snp_direct_qemu-10",
            replace(MACHINE, firmware=FakeFirmware(hash_area=(0, 0)).to_bytes()),
            "launch.kernel_hashes",
        ),
    ],
)
def test_predict_launch_refuses(
    what: UkiBoot | DirectKernelBoot, platform: str, machine: Machine | None, reason: str
) -> None:
    assert predict_launch(DIRECT, "snp_direct_qemu-10", MACHINE)
    with pytest.raises(ConfigError) as error:
        predict_launch(what, platform, machine)
    assert error.value.reason == reason


def test_predict_on_a_platform_without_tpm_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        predict(DIRECT, "snp_direct_qemu-10")
    assert error.value.reason == "platform.mismatch"
