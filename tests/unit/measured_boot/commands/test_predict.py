"""Launches under a TEE; predictions for a TPM are in `test_cli`."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.references.values import parse_reference_set
from measured_boot.cli import main
from measured_boot.image_files import read_reported
from measured_boot.platforms import Boot, find_named_platform
from measured_boot.prediction import Machine, predict, predict_launch
from tests.fakes.platforms.firmware import FakeFirmware, fake_svsm
from tests.fakes.published.built_image import write_built_image

SNP = "snp_direct_qemu-10"
SVSM = "snp-svsm_stub-257.13_qemu-8.0-svsm"
FIRMWARE = FakeFirmware().to_bytes()


@pytest.fixture
def image(tmp_path: Path) -> str:
    (tmp_path / "OVMF.fd").write_bytes(FIRMWARE)
    (tmp_path / "svsm.bin").write_bytes(fake_svsm())
    (tmp_path / "OVMF_VARS.fd").write_bytes(bytes(0x84000))
    return str(write_built_image(tmp_path))


def snp(image: str, *more: str) -> list[str]:
    firmware = str(Path(image).with_name("OVMF.fd"))
    machine = ("--vcpus", "2", "--cpu-model", "EPYC-v4")
    return ["predict", image, "--platform", SNP, "--firmware", firmware, *machine, *more]


def launch(image: str, **machine: Any) -> str:
    what = read_reported(Path(image), Boot.DIRECT)
    prediction = predict_launch(what, SNP, Machine(firmware=FIRMWARE, **machine))
    return prediction.registers["launch_digest"].hex()


def test_predict_launch_json_and_output_are_what_the_owner_registers(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "snp.json"
    more = ("--memory", "2048", "--guest-features", "0x21", "--json", "--output", str(output))
    assert main(snp(image, *more)) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == {
        "version": 1,
        "name": "ccinit-prod-snp",
        "profile": "prod",
        "platform": "snp",
        "measurement": [launch(image, vcpus=2, cpu_model="EPYC-v4", guest_features=0x21)],
    }
    assert output.read_text() == printed


def test_predict_launch_of_many_machines_is_one_file(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ("--cpu-model", "EPYC-Milan", "--cpu-model", "EPYC-Milan-v2")
    assert main(snp(image, *models, "--vcpus", "1,3-4", "--json")) == 0
    values = json.loads(capsys.readouterr().out)["measurement"]
    assert values == [
        launch(image, vcpus=vcpus, cpu_model=model)
        for model in ("EPYC-v4", "EPYC-Milan")  # the last model has the signature of this one
        for vcpus in (1, 3, 4)
    ]


def test_predict_launch_with_an_svsm_takes_the_size_of_the_variables(
    image: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(image).parent)
    files = ("--firmware", "OVMF.fd", "--svsm", "svsm.bin", "--variables", "OVMF_VARS.fd")
    arguments = ["predict", image, "--platform", SVSM, *files, "--cpu-model", "EPYC-Milan"]
    assert main([*arguments, "--vcpus", "1,2", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    what = read_reported(Path(image), Boot.UKI)
    launched = [
        predict_launch(
            what,
            SVSM,
            Machine(
                firmware=FIRMWARE,
                vcpus=vcpus,
                cpu_model="EPYC-Milan",
                svsm=fake_svsm(),
                variables_bytes=0x84000,
            ),
        ).registers
        for vcpus in (1, 2)
    ]
    assert value == {
        "version": 1,
        "name": "ccinit-prod-snp-svsm",
        "profile": "prod",
        "platform": "snp-svsm",
        "measurement": [registers["svsm_launch_digest"].hex() for registers in launched],
        "pcr": {str(index): launched[0][f"pcr{index}"].hex() for index in (4, 9, 11)},
    }
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "with variables_bytes 540672\n" in printed
    assert "\nsvsm_launch_digest " in printed


@pytest.mark.parametrize("vcpus", ["", "x", "4-1", "1,,2", "4-", "-4", "1-2-3", "+4", "0x4", "٤"])
def test_predict_launch_numbers_that_are_none_are_refused(
    image: str, vcpus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main(snp(image, f"--vcpus={vcpus}"))
    assert error.value.code == 2
    expected = "expected 1 to 512 processors, as 4 or 1,2,8 or 1-16, found"
    assert f"{expected} {vcpus!r}\n" in capsys.readouterr().err


@pytest.mark.parametrize("features", ["SNP", "0x20", "-1", f"{(1 << 64) + 1}"])
def test_predict_launch_features_that_no_launch_has_are_refused(
    image: str, features: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main(snp(image, f"--guest-features={features}"))
    assert error.value.code == 2
    expected = "expected 64 bits with bit 0 set, as 1 or 0x21, found"
    assert f"{expected} {features!r}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("platform", "option"),
    [
        (SNP, "--events"),
        (None, "--vcpus=2"),
        (None, "--cpu-model=EPYC-Milan"),
        (None, "--memory=512"),
        ("ovmf-2025.02_direct_qemu-10", "--guest-features=1"),
        ("tdx_ovmf-2025.02_direct_qemu-10.1", "--vcpus=2"),
        ("tdx_ovmf-2025.02_direct_qemu-10.1", "--cpu-model=EPYC-Milan"),
        ("sev_direct_qemu-10", "--vcpus=2"),
        ("sev-es_direct_qemu-10", "--guest-features=1"),
        (SVSM, "--guest-features=1"),
    ],
)
def test_predict_option_that_this_platform_does_not_measure_is_refused(
    image: str, platform: str | None, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = () if platform is None else ("--platform", platform)
    assert main(["predict", image, *named, option]) == 2
    words = capsys.readouterr().err
    assert f"{option.partition('=')[0]} " in words
    assert "[predict.what]" in words


def test_predict_launch_as_text_says_what_it_depends_on(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(snp(image)) == 0
    printed = capsys.readouterr().out
    first = f"ccinit-prod-snp: prod, direct boot\nplatform {SNP}: computed by the specification"
    assert printed.startswith(first)
    assert "with vcpus 2\nwith cpu_model EPYC-v4\n" in printed
    assert printed.splitlines()[-1].startswith("launch_digest ")


def test_predict_launch_of_a_named_firmware_needs_no_file(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    platform = find_named_platform("tdx_ovmf-2025.02_stub-257.13_qemu-10.1")
    assert main(["predict", image, "--platform", platform.name, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    what = read_reported(Path(image), Boot.UKI)
    registers = predict_launch(what, platform.name).registers
    assert list(value) == [
        *("version", "name", "profile", "platform", "mrtd", "rtmr1", "rtmr2", "events")
    ]
    assert (value["name"], value["platform"]) == ("ccinit-prod-tdx-uki", "tdx")
    registered = parse_reference_set(json.dumps(value).encode())
    assert registered.measured.tee is Tee.TDX
    assert registered.measured.identities == (tuple(registers.values()),)
    assert platform.firmware
    assert value["mrtd"] == platform.firmware.mrtd
    for index in (1, 2):
        register = bytes(48)
        for event in value["events"][str(index)]:
            assert event["subject"]
            register = hashlib.sha384(register + bytes.fromhex(event["digest"])).digest()
        assert value[f"rtmr{index}"] == register.hex() == registers[f"rtmr{index}"].hex()


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
        (["--platform", SNP], "predict.what"),
        (["--firmware", "/dev/null"], "predict.what"),
        (["--platform", SNP, "--firmware", "OVMF.fd"], "predict.what"),
        (["--platform", SNP, "--firmware", "OVMF.fd", "--cpu-model", "host"], "cpu_model.unknown"),
        (["--platform", "snp"], "platform.unknown"),
        (["--platform", SVSM], "predict.what"),
        (["--platform", SVSM, "--firmware", "OVMF.fd"], "predict.what"),
        (["--platform", SVSM, "--svsm", "svsm.bin"], "predict.what"),
        (
            ["--platform", SNP, "--firmware", "OVMF.fd", "--variables", "OVMF_VARS.fd"],
            "predict.what",
        ),
        (["--platform", SNP, "--firmware", "OVMF.fd", "--svsm", "svsm.bin"], "predict.what"),
    ],
)
def test_predict_launch_of_a_machine_that_is_not_told_whole_is_wrong_usage(
    image: str,
    arguments: list[str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(image).parent)
    assert main(["predict", image, *arguments]) == 2
    assert f"[{reason}]" in capsys.readouterr().err
    told_whole = ["--platform", SNP, "--cpu-model", "EPYC-Milan", "--firmware", "/dev/null"]
    assert main(["predict", image, *told_whole]) == 1
    assert "[firmware.length]" in capsys.readouterr().err


def test_predict_launch_of_another_profile_writes_nothing(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "snp.json"
    assert main(snp(image, "--profile", "test", "--output", str(output))) == 1
    assert "[reference.profile]" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("name", ["ccinit-prod.json", "OVMF.fd"])
def test_predict_and_explain_write_over_nothing_that_they_read(
    image: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    read = Path(image).with_name(name)
    before = read.read_bytes()
    (link := read.with_name("link")).symlink_to(name)
    commands = [snp(image, "--output", str(path)) for path in (read, link)]
    if str(read) == image:
        commands.append(["explain", image, "--svg", image])
    for command in commands:
        assert main(command) == 2
        assert "[file.twice]" in capsys.readouterr().err
    assert read.read_bytes() == before


def test_predict_takes_the_size_of_no_folder(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = ("--svsm", str(tmp_path / "svsm.bin"), "--variables", str(tmp_path))
    assert main([*snp(image, *machine), "--platform", SVSM]) == 1
    assert capsys.readouterr().err == f"measured-boot: {tmp_path}: Is a directory\n"
