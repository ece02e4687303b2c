from pathlib import Path

import pytest

from tests.bench.__main__ import GROUPS, main, parse_options

ROWS = Path(__file__).parents[2] / "bench" / "rows"


def test_options_without_arguments_name_no_trial() -> None:
    options = parse_options([])
    assert options.only is None
    assert options.runs is None
    assert not options.keep_image


def test_options_for_a_trial_take_rows_and_rounds() -> None:
    options = parse_options(["--only", "pid1", "--only", "pull", "--runs", "3", "--keep-image"])
    assert options.only == ["pid1", "pull"]
    assert options.runs == 3
    assert options.keep_image


@pytest.mark.parametrize("arguments", [["--runs", "0"], ["--only", "none"]])
def test_options_that_measure_nothing_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(arguments)


def test_every_module_of_rows_is_measured() -> None:
    modules = {path.stem for path in ROWS.glob("*.py")} - {"__init__"}
    assert modules == set(GROUPS)


def test_without_root_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main([]) == 1
    assert "needs root" in capsys.readouterr().err
