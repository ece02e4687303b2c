import json
from pathlib import Path

import pytest

from host_runtime.machine.qemu import Accelerator
from tests.bench import __main__ as bench
from tests.bench.__main__ import GROUPS, main, parse_options
from tests.bench.measurement import Bench, Row, compare

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


def test_rows_that_cannot_be_read_leave_the_others_and_fail_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreadable(_bench: Bench) -> tuple[Row, ...]:
        raise KeyError("pss_bytes")

    def good(_bench: Bench) -> tuple[Row, ...]:
        return (compare("a row", "ms", ours=[1.0], peer=[2.0], peer_name="it", goal=1.0),)

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(bench, "choose_accelerator", lambda _tools: Accelerator.TCG)
    monkeypatch.setattr(bench, "OUTPUT", tmp_path / "bench")
    monkeypatch.setattr(bench, "GROUPS", {"unreadable": unreadable, "good": good})
    assert main(["--keep-image"]) == 1
    printed = capsys.readouterr().out
    assert "unreadable was not measured: KeyError: 'pss_bytes'" in printed
    report = json.loads((tmp_path / "bench/partial/report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["a row"]
    assert not (tmp_path / "bench/report.json").exists()
