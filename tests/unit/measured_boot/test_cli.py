import json
from pathlib import Path

import pytest

from measured_boot.cli import main
from measured_boot.platforms import PLATFORMS
from measured_boot.prediction import DirectKernelBoot, UkiBoot, predict
from measured_boot.published.reference_values import reference_values
from measured_boot.tpm.pcr import replay
from tests.fakes.published.pe_images import kernel_image, uki_image

LINE = "quiet oops=panic"


@pytest.fixture
def uki(tmp_path: Path) -> str:
    path = tmp_path / "Image.efi"
    path.write_bytes(uki_image())
    return str(path)


@pytest.fixture
def direct(tmp_path: Path) -> list[str]:
    for name, data in (("vmlinuz", kernel_image()), ("initrd", b"i"), ("line", LINE.encode())):
        (tmp_path / name).write_bytes(data)
    options = ("--initrd", str(tmp_path / "initrd"), "--command-line", str(tmp_path / "line"))
    return [str(tmp_path / "vmlinuz"), *options]


def test_predict_prints_the_registers(uki: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", uki]) == 0
    printed = capsys.readouterr().out
    prediction = predict(UkiBoot(uki=uki_image()))
    assert printed.startswith("image: prod, uki boot\n")
    for value in prediction.registers.values():
        assert value.hex() in printed
    assert "section .linux" not in printed


def test_predict_events_prints_each(uki: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", uki, "--events"]) == 0
    printed = capsys.readouterr().out
    for row in predict(UkiBoot(uki=uki_image())).events:
        assert f"{row.digest.hex()} {row.subject}" in printed


def test_predict_json_and_output_are_the_reference_values(
    uki: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "reference.json"
    command = ["predict", uki, "--name", "n", "--profile", "prod", "--json"]
    assert main([*command, "--output", str(output)]) == 0
    expected = reference_values(predict(UkiBoot(uki=uki_image())), "n").to_bytes()
    assert capsys.readouterr().out.encode() == expected
    assert output.read_bytes() == expected


@pytest.mark.parametrize("name", ["", ".", "../x", "Upper", "x" * 65])
def test_predict_name_that_no_owner_could_register_is_refused(
    uki: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", uki, "--name", "fine"]) == 0
    with pytest.raises(SystemExit) as refused:
        main(["predict", uki, "--name", name])
    assert refused.value.code == 2
    assert "[reference.name]" in capsys.readouterr().err


def test_predict_direct_boot(direct: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", *direct, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    what = DirectKernelBoot(kernel=kernel_image(), initrd=b"i", command_line=LINE)
    assert (value["name"], value["boot"]) == ("vmlinuz-direct", "direct")
    assert value["pcr"]["9"] == predict(what).registers[9].hex()
    assert value["pcr"]["11"] == replay(()).hex()


def test_predict_command_line_may_end_with_one_newline(
    direct: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *direct]) == 0
    without = capsys.readouterr().out
    Path(direct[-1]).write_text(LINE + "\n")
    assert main(["predict", *direct]) == 0
    assert capsys.readouterr().out == without


def test_predict_wrong_profile_writes_nothing(
    uki: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "reference.json"
    assert main(["predict", uki, "--profile", "test", "--output", str(output)]) == 1
    assert "[reference.profile]" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("part", ["--initrd", "--command-line"])
def test_predict_half_of_a_direct_boot_is_refused(
    direct: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = direct.index(part)
    assert main(["predict", direct[0], *direct[where : where + 2]]) == 2
    assert "[predict.what]" in capsys.readouterr().err


def test_predict_command_line_that_is_not_ascii_is_refused(
    direct: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(direct[-1]).write_bytes(b"\xff")
    assert main(["predict", *direct]) == 1
    assert "[predict.what]" in capsys.readouterr().err


def test_predict_unknown_platform_is_refused_with_a_list(
    uki: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", uki, "--platform", "seabios"]) == 2
    message = capsys.readouterr().err
    assert "[platform.unknown]" in message
    assert PLATFORMS[0].name in message


def test_predict_missing_file_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(tmp_path / "none.efi")]) == 1
    assert "none.efi" in capsys.readouterr().err


def test_platforms_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["platforms"]) == 0
    printed = capsys.readouterr().out
    for platform in PLATFORMS:
        assert platform.name in printed
        firmware = platform.firmware
        assert ("the operator's firmware" if firmware is None else firmware.sha256) in printed
