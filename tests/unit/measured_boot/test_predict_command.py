"""Launches under a TEE; predictions for a TPM are in `test_cli`."""

import json
from pathlib import Path

import pytest

from measured_boot.cli import main
from measured_boot.image_files import read_reported
from measured_boot.measurements import describe
from measured_boot.platforms import Boot, find_named_platform
from measured_boot.prediction import Machine, predict, predict_launch
from tests.fakes.built_image import write_built_image
from tests.fakes.firmware import FakeFirmware

SNP = "snp_direct_qemu-10"
FIRMWARE = FakeFirmware().to_bytes()


@pytest.fixture
def image(tmp_path: Path) -> str:
    (tmp_path / "OVMF.fd").write_bytes(FIRMWARE)
    return str(write_built_image(tmp_path))


def snp(image: str, *more: str) -> list[str]:
    firmware = str(Path(image).with_name("OVMF.fd"))
    machine = ("--vcpus", "2", "--cpu-model", "EPYC-v4")
    return ["predict", image, "--platform", SNP, "--firmware", firmware, *machine, *more]


def test_predict_launch_json_and_output_describe_it(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "snp.json"
    more = ("--memory", "2048", "--guest-features", "0x21", "--json", "--output", str(output))
    assert main(snp(image, *more)) == 0
    machine = Machine(
        firmware=FIRMWARE, vcpus=2, cpu_model="EPYC-v4", memory_mib=2048, guest_features=0x21
    )
    expected = predict_launch(read_reported(Path(image), Boot.DIRECT), SNP, machine)
    printed = capsys.readouterr().out
    assert json.loads(printed) == describe(expected)
    assert output.read_text() == printed


def test_predict_launch_as_text_says_what_it_depends_on(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(snp(image)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"prod, direct boot\nplatform {SNP}: computed by the specification")
    assert "with vcpus 2\nwith cpu_model EPYC-v4\n" in printed
    assert printed.splitlines()[-1].startswith("launch_digest ")


def test_predict_launch_of_a_named_firmware_needs_no_file(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    platform = find_named_platform("tdx_ovmf-2025.02_stub-257.13_qemu-10.1")
    assert main(["predict", image, "--platform", platform.name, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["registers"]["mrtd"] == platform.mrtd
    assert value["inputs"] == {"firmware_sha256": platform.firmware_sha256}


def test_predict_report_without_platform_is_its_uki(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", image, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["name"], value["boot"]) == ("ccinit-prod", "uki")
    assert main(["predict", image, "--platform", "ovmf-2025.02_direct_qemu-10", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    direct = predict(read_reported(Path(image), Boot.DIRECT))
    assert (value["name"], value["boot"]) == ("ccinit-prod-direct", "direct")
    assert value["pcr"]["9"] == direct.registers[9].hex()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--platform", SNP], "launch.machine"),
        (["--firmware", "/dev/null"], "predict.what"),
        (["--platform", SNP, "--firmware", "/dev/null"], "firmware.length"),
        (["--platform", "snp"], "platform.unknown"),
    ],
)
def test_predict_launch_refuses(
    image: str, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", image, *arguments]) == 1
    assert f"[{reason}]" in capsys.readouterr().err


def test_predict_launch_of_another_profile_writes_nothing(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "snp.json"
    assert main(snp(image, "--profile", "test", "--output", str(output))) == 1
    assert "[reference.profile]" in capsys.readouterr().err
    assert not output.exists()
