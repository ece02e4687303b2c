"""`make test` ends well only if all that it runs does, and it runs all tests that there are."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("codespell", "lint-imports", "mypy", "pytest", "python", "rootfs-builder", "ruff")
STAND_IN = """\
#!/bin/sh
told="${0##*/} $*"
echo "$told" >> "$TOLD"
case "$told" in *"$FAILING"*) exit 1 ;; esac
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A stand-in for each program that the targets call: it says what it was asked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    return folder


def make_test(programs: Path, failing: str) -> tuple[int, str]:
    """Return the exit status, and what was run."""
    told = programs.parent / "told"
    # Of the `make test` that runs this one nothing is handed on.
    ours = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFL"))}
    command = ("make", f"VENV={programs.parent}", "-o", f"{programs.parent}/.stamp", "test")
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**ours, "TOLD": str(told), "FAILING": failing},
        capture_output=True,
        check=False,
    )
    return ended.returncode, told.read_text()


def test_all_tests_are_run(programs: Path) -> None:
    status, told = make_test(programs, "nothing")
    assert status == 0
    run = [word for line in told.splitlines() if line.startswith("pytest") for word in line.split()]
    kinds = {path.relative_to(ROOT).parts[1] for path in ROOT.glob("tests/**/test_*.py")}
    assert {f"tests/{kind}" for kind in kinds} <= set(run)


@pytest.mark.parametrize(
    "failing",
    [
        *("ruff check", "ruff format", "lint-imports", "codespell", "mypy"),
        *("tests/unit", "tests/integration", "pytest tests/vm ", "pytest tests/vm/guest"),
        *("rootfs-builder tools", "rootfs-builder image", "python -m tests.faults"),
    ],
)
def test_whatever_fails_has_the_whole_fail(programs: Path, failing: str) -> None:
    status, told = make_test(programs, failing)
    assert status != 0
    assert failing in told
    if not failing.startswith("rootfs-builder"):  # without an image there is nothing to test
        assert "python -m tests.faults" in told
        assert sum(line.startswith("pytest ") for line in told.splitlines()) == 4
