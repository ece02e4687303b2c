"""The report of fault rows, made by real runs of pytest over a small tree of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEST = Path("tests/unit/test_it.py")
GOOD = """
import pytest

def test_r50_good(fault_seen):
    fault_seen.guest("reference.tag")

@pytest.mark.fault_row("R68", "R41")
@pytest.mark.parametrize("number", [1, 2])
def test_marked(number):
    assert number < 3

def test_of_no_row():
    pass
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / TEST).parent.mkdir(parents=True)
    (tmp_path / TEST).write_text(GOOD)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "-q"\n')
    (tmp_path / ".gitignore").write_text("/build/\n__pycache__/\n.pytest_cache/\n")
    subprocess.run(("git", "init", "--quiet"), cwd=tmp_path, check=True)
    return tmp_path


def run(tree: Path, *arguments: str, code: int = 0) -> str:
    command = (sys.executable, "-m", "pytest", "-p", "tests.faults.plugin", *arguments)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(tree: Path) -> dict[str, dict[str, Any]]:
    report = json.loads((tree / "build/faults/report.json").read_text())
    return {row["id"]: row for row in report["rows"]}


def verdicts(tree: Path) -> dict[str, str]:
    return {name: rows(tree)[name]["verdict"] for name in ("R50", "R68", "R41")}


PASSING = dict.fromkeys(("R50", "R68", "R41"), "pass")


def test_run_makes_a_report_with_every_row(tree: Path) -> None:
    run(tree)
    found = rows(tree)
    assert list(found) == [f"R{number}" for number in range(1, 99)]
    assert verdicts(tree) == PASSING
    assert found["R50"]["guest"] == ["reference.tag"]
    assert (found["R50"]["host_saw"], found["R50"]["owner_log"]) == (None, None)
    assert found["R51"]["why"].startswith("not shown")


def test_test_that_breaks_makes_its_rows_fail_and_no_other(tree: Path) -> None:
    run(tree)
    broken = GOOD.replace("number < 3", "number < 2")
    (tree / TEST).write_text(broken)
    run(tree, code=1)
    assert verdicts(tree) == {"R50": "pass", "R68": "fail", "R41": "fail"}
    assert rows(tree)["R68"]["why"] == f"failed: {TEST}::test_marked[2]"
    assert rows(tree)["R68"]["tests"]["passed"] == 1


def test_runs_of_one_tree_are_merged_and_those_of_another_do_not_count(tree: Path) -> None:
    run(tree, "-k", "r50")
    assert verdicts(tree) == {"R50": "pass", "R68": "fail", "R41": "fail"}
    run(tree, "-k", "marked")
    assert verdicts(tree) == PASSING
    (tree / "another.py").write_text("# another state\n")
    run(tree, "-k", "r50")
    assert verdicts(tree) == {"R50": "pass", "R68": "fail", "R41": "fail"}
    (tree / "another.py").unlink()
    run(tree, "-k", "marked")  # the earlier pass of this state is gone
    assert verdicts(tree) == {"R50": "fail", "R68": "pass", "R41": "pass"}


def test_run_during_which_the_tree_changes_is_not_recorded(tree: Path) -> None:
    run(tree)
    text = GOOD + "\ndef test_change():\n    open('more.py', 'w').close()\n"
    (tree / TEST).write_text(text)
    assert "the tree has changed while it was tested" in run(tree)
    assert not (tree / "more.py").read_bytes()
    run(tree)
    assert verdicts(tree) == PASSING


@pytest.mark.parametrize("row", ["R0", "R99", "51", "r51"])
def test_row_that_does_not_exist_ends_the_collection(tree: Path, row: str) -> None:
    run(tree, "--collect-only")
    (tree / TEST).write_text(GOOD.replace('"R41"', f'"{row}"'))
    assert f"not in tests/faults/rows.toml: {row}" in run(tree, "--collect-only", code=4)


def test_name_counts_as_a_mark_does(tree: Path) -> None:
    (tree / TEST).write_text(GOOD.replace("test_r50_", "test_r099_"))
    assert "not in tests/faults/rows.toml: R99" in run(tree, code=4)
