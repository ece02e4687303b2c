"""`make test` runs all tests that there are, and fails with any; `make setup` is done once."""

import os
import shutil
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


PYTHON = """\
#!/bin/sh
case "$1 $2" in
"-c "*) exec python3 "$@" ;;
esac
mkdir -p "$3/bin"
printf '%s\\n' '#!/bin/sh' 'mkdir "$TOLD.held" || echo both >> "$TOLD"' 'sleep 0.2' \
    'rmdir "$TOLD.held"; echo pip >> "$TOLD"; exit $FAILS' > "$3/bin/pip"
chmod +x "$3/bin/pip"
"""
OLD_PYTHON = """\
#!/bin/sh
exec python3 -c 'import sys; sys.version_info = (3, 9); sys.version = "3.9.2"; exec(sys.argv[1])' \
    "$2"
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


class Setup:
    """`make setup` of a tree in which nothing was made, with a Python that is played."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.told = folder, folder / "told"
        shutil.copy(ROOT / "Makefile", folder)
        (folder / "requirements").mkdir()
        for name in ("requirements/dev.txt", "pyproject.toml"):
            (folder / name).touch()

    def start(self, *words: str, python: str = PYTHON, fails: int = 0) -> "subprocess.Popen[str]":
        program = self.folder / "python"
        program.write_text(python)
        program.chmod(0o755)
        ours = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
        return subprocess.Popen(
            ("make", *words, "setup", "PYTHON=./python"),
            cwd=self.folder,
            env={**ours, "MFLAGS": "", "TOLD": str(self.told), "FAILS": str(fails)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    folder = tmp_path / "a folder"
    folder.mkdir()
    return Setup(folder)


def test_two_setups_at_once_install_once_and_one_after_the_other(setup: Setup) -> None:
    both = [setup.start(), setup.start()]
    said = [make.communicate()[0] for make in both]
    assert [make.returncode for make in both] == [0, 0]
    assert setup.told.read_text() == "pip\n" * 2  # locked packages, then ours
    assert sum("setup: Python packages" in one for one in said) == 1


def test_setup_that_failed_is_done_again_and_one_that_did_not_is_not(setup: Setup) -> None:
    for fails, calls in ((1, 1), (0, 3), (0, 3)):
        make = setup.start(fails=fails)
        make.communicate()
        assert (make.returncode != 0) is bool(fails)
        assert setup.told.read_text() == "pip\n" * calls


def test_dry_run_says_what_would_be_done_and_installs_nothing(setup: Setup) -> None:
    make = setup.start("-n")
    said = make.communicate()[0]
    assert make.returncode == 0
    assert "pip install --quiet --require-hashes -r requirements/dev.txt" in said
    assert not setup.told.exists()


def test_python_that_is_too_old_is_told_before_anything_is_made(setup: Setup) -> None:
    make = setup.start(python=OLD_PYTHON)
    said = make.communicate()[1]
    assert make.returncode != 0
    assert "setup: expected Python 3.11 or later, found 3.9.2: name another" in said
    assert not (setup.folder / "build").exists()
