import json
from pathlib import Path

import pytest

from ccinit.errors import FormatError, LimitExceededError
from measured_boot.cli import main
from measured_boot.commands import replay as replay_command
from measured_boot.commands.replay import parse_quote
from measured_boot.prediction import UkiBoot, predict, predict_launch
from measured_boot.published.reference_values import encode_launches, reference_values
from tests.fakes.platforms.event_logs import log_header
from tests.fakes.published.pe_images import uki_image
from tests.unit.measured_boot.test_event_log import (
    cc_log_of_prediction,
    event,
    log_of_prediction,
)

PREDICTION = predict(UkiBoot(uki=uki_image()))
TDX_UKI = "tdx_ovmf-2025.02_stub-257.13_qemu-10.1"


@pytest.fixture
def uki(tmp_path: Path) -> str:
    path = tmp_path / "image.efi"
    path.write_bytes(uki_image())
    return str(path)


def replay(folder: Path, log: bytes, *options: str) -> int:
    (folder / "log").write_bytes(log)
    return main(["replay", str(folder / "log"), *options])


def test_replay_prints_the_registers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(tmp_path, log_of_prediction()) == 0
    expected = (f"pcr{index} {value.hex()}" for index, value in PREDICTION.registers.items())
    assert capsys.readouterr().out.splitlines() == list(expected)


def test_replay_of_a_log_as_predicted(
    tmp_path: Path, uki: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(tmp_path, log_of_prediction(), "--image", uki) == 0
    assert capsys.readouterr().out.endswith("the log is as predicted\n")
    assert replay(tmp_path, cc_log_of_prediction(), "--image", uki, "--platform", TDX_UKI) == 0
    assert capsys.readouterr().out.endswith("the log is as predicted\n")


def test_replay_names_in_words_what_differs(
    tmp_path: Path, uki: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = log_of_prediction() + event(9, bytes(32))
    assert replay(tmp_path, more, "--image", uki) == 1
    assert (
        "pcr9, event 3: predicted nothing more, the log has loader's measurement "
        f'"text" ({"00" * 32})\n'
    ) in capsys.readouterr().out
    assert replay(tmp_path, log_header(), "--image", uki) == 1
    digest = next(row.digest.hex() for row in PREDICTION.events if row.register == 11)
    assert (
        f"pcr11, event 1: predicted name of section .linux ({digest}), the log has nothing more\n"
    ) in capsys.readouterr().out


def test_replay_another_image_under_tdx_is_named_by_its_register(
    tmp_path: Path, uki: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(uki).write_bytes(uki_image({".cmdline": b"quiet"}))
    assert replay(tmp_path, cc_log_of_prediction(), "--image", uki) == 1
    printed = capsys.readouterr().out
    assert "rtmr1, event 3: predicted UKI (" in printed
    assert "rtmr2, event 6: predicted section .cmdline (" in printed


def test_replay_quote_of_the_same_boot_is_what_the_log_leads_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quote = tmp_path / "quote.json"
    quote.write_bytes(reference_values(PREDICTION, "x").to_bytes())
    assert replay(tmp_path, log_of_prediction(), "--quote", str(quote)) == 0
    assert capsys.readouterr().out.endswith("the log leads to the quoted pcr4, pcr9, pcr11\n")


def test_replay_reference_values_of_tdx_are_what_the_log_leads_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quote = tmp_path / "quote.json"
    launch = predict_launch(UkiBoot(uki=uki_image()), TDX_UKI)
    quote.write_bytes(encode_launches([launch], "x"))
    assert replay(tmp_path, cc_log_of_prediction(), "--quote", str(quote)) == 0
    assert capsys.readouterr().out.endswith("the log leads to the quoted rtmr1, rtmr2\n")


def test_replay_quote_of_another_kind_than_the_log_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quote = tmp_path / "quote.json"
    quote.write_bytes(reference_values(PREDICTION, "x").to_bytes())
    assert replay(tmp_path, cc_log_of_prediction(), "--quote", str(quote)) == 1
    assert "the log of a TD has no pcr4 [quote.kind]" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["9", "pcr9", "pcr12"])
def test_replay_quote_of_another_boot_names_the_register(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    quote = tmp_path / "quote.json"
    quote.write_text(json.dumps({name: "11" * 32}))
    assert replay(tmp_path, log_of_prediction(), "--quote", str(quote)) == 1
    printed = capsys.readouterr().out
    assert f"{name if name.startswith('pcr') else 'pcr9'}: the log leads to " in printed
    assert f"the quote has {'11' * 32}" in printed


def test_replay_quote_of_all_registers_knows_those_of_a_dynamic_launch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A TPM starts with PCR 17 to 22 all ones; zeros there come of a launch that no log has."""
    ones, zeros = "ff" * 32, "00" * 32
    whole = {str(number): ones if 17 <= number <= 22 else zeros for number in range(24)}
    whole |= {str(number): value.hex() for number, value in PREDICTION.registers.items()}
    quote = tmp_path / "quote.json"
    quote.write_text(json.dumps(whole))
    assert replay(tmp_path, log_of_prediction(), "--quote", str(quote)) == 0
    for number, other in ((16, ones), (17, zeros), (22, zeros), (23, ones)):
        quote.write_text(json.dumps({**whole, str(number): other}))
        assert replay(tmp_path, log_of_prediction(), "--quote", str(quote)) == 1
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith(f"pcr{number}: the log leads to {whole[str(number)]}, ")


def test_parse_quote_reads_the_forms_that_have_registers() -> None:
    expected = {"pcr4": b"\1" * 32, "rtmr1": b"\2" * 48}
    registers = {"4": "01" * 32, "rtmr1": "02" * 48}
    for value in (
        registers,
        {"pcr": {"pcr4": "01" * 32, "rtmr1": "02" * 48}},
        {"registers": {**registers, "mrtd": "03" * 48}, "version": 1},
    ):
        assert parse_quote(json.dumps(value).encode()) == expected


ZERO = f'"{"00" * 32}"'.encode()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"{}", b'{"4": 1}', b'{"4": "x"}', b'{"pcr": []}', b'{"pcr": {}}'),
        *(b'{"4": ""}', b'{"4": "00"}', b'{"rtmr1": %s}' % ZERO, b'{"": ""}'),
        *(b'{"24": %s}' % ZERO, b'{"pcr04": %s}' % ZERO, b'{"4": %s, "pcr4": %s}' % (ZERO, ZERO)),
    ],
)
def test_parse_quote_refuses_what_names_no_register_to_compare(data: bytes) -> None:
    assert parse_quote(b'{"4": %s}' % ZERO) == {"pcr4": bytes(32)}
    with pytest.raises(FormatError) as error:
        parse_quote(data)
    assert error.value.reason == "quote.form"


def test_parse_quote_refuses_what_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_command, "MAX_QUOTE_BYTES", 1)
    with pytest.raises(LimitExceededError) as error:
        parse_quote(b"{}")
    assert error.value.reason == "quote.form"


@pytest.mark.parametrize("option", ["--platform", "--initrd", "--command-line"])
def test_replay_options_of_an_image_that_is_not_given_are_refused(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(tmp_path, log_of_prediction(), option, "x") == 2
    assert "[replay.what]" in capsys.readouterr().err
