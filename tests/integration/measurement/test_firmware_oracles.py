"""Our reading of Debian's OVMF against other programs', and what can be done with it.

Needs the tools tree (`CCINIT_TOOLS`, or build/tools).
"""

import hashlib
import os
from pathlib import Path

import pytest
from sevsnpmeasure.guest import calc_launch_digest  # type: ignore[import-untyped]
from sevsnpmeasure.ovmf import OVMF  # type: ignore[import-untyped]
from sevsnpmeasure.sev_mode import SevMode  # type: ignore[import-untyped]

from ccinit.errors import ConfigError
from measured_boot.platforms import PLATFORMS, Technology
from measured_boot.prediction import DirectKernelBoot, Machine, UkiBoot, predict_launch
from measured_boot.sev.cpu_models import find_signature
from measured_boot.sev.firmware import parse_sev_firmware
from measured_boot.tdx.build_measurement import measure_build
from measured_boot.tdx.firmware import parse_tdx_sections
from tests.fakes.platforms.firmware import fake_svsm
from tests.fakes.published.pe_images import kernel_image, uki_image

TREE = Path(os.environ.get("CCINIT_TOOLS", "build/tools"))
OVMF_FILE = TREE / "usr/share/ovmf/OVMF.fd"
DIRECT = DirectKernelBoot(kernel=kernel_image(), initrd=b"initrd", command_line="quiet")


def test_list_of_pages_is_what_the_other_program_reads() -> None:
    ours = parse_sev_firmware(OVMF_FILE.read_bytes())
    theirs = OVMF(str(OVMF_FILE))
    assert (ours.address, ours.reset_address) == (theirs.gpa(), theirs.sev_es_reset_eip())
    assert [(row.address, row.size, row.kind.value) for row in ours.special_pages] == [
        (row.gpa, row.size, row.section_type().value) for row in theirs.metadata_items()
    ]
    assert (ours.hash_area is not None) == theirs.is_sev_hashes_table_supported()


def test_debians_firmware_is_refused_for_amd_because_it_checks_no_kernel() -> None:
    machine = Machine(firmware=OVMF_FILE.read_bytes(), cpu_model="EPYC-v4")
    for technology in (Technology.SNP, Technology.SEV_ES, Technology.SEV):
        with pytest.raises(ConfigError) as error:
            predict_launch(DIRECT, f"{technology.value}_direct_qemu-10", machine)
        assert error.value.reason == "launch.kernel_hashes"


@pytest.mark.parametrize("vcpus", [1, 4])
def test_debians_firmware_under_an_svsm_is_what_the_other_program_measures(
    tmp_path: Path, vcpus: int
) -> None:
    code, variables = (TREE / f"usr/share/OVMF/OVMF_{name}_4M.fd" for name in ("CODE", "VARS"))
    (tmp_path / "svsm").write_bytes(fake_svsm(0x40000))
    theirs = calc_launch_digest(
        SevMode.SEV_SNP_SVSM,
        vcpus,
        find_signature("EPYC-Milan"),
        str(code),
        "",
        "",
        "",
        1,
        svsm_file=f"{tmp_path}/svsm",
        ovmf_vars_size=variables.stat().st_size,
    )
    machine = Machine(
        firmware=code.read_bytes(),
        vcpus=vcpus,
        cpu_model="EPYC-Milan",
        svsm=fake_svsm(0x40000),
        variables_bytes=variables.stat().st_size,
    )
    uki = UkiBoot(uki=uki_image())
    ours = predict_launch(uki, "snp-svsm_stub-257.13_qemu-8.0-svsm", machine)
    assert ours.registers["svsm_launch_digest"] == theirs


def test_debians_firmware_is_the_build_that_platforms_of_intel_name() -> None:
    data = OVMF_FILE.read_bytes()
    platforms = [row for row in PLATFORMS if row.technology is Technology.TDX]
    builds = {row.firmware for row in platforms if row.firmware}
    assert {build.sha256 for build in builds} == {hashlib.sha256(data).hexdigest()}
    assert {build.mrtd for build in builds} == {measure_build(parse_tdx_sections(data)).hex()}
    with_file = predict_launch(DIRECT, platforms[0].name, Machine(firmware=data))
    assert with_file.registers == predict_launch(DIRECT, platforms[0].name).registers
