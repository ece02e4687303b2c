"""What the owner's commands do where not all text can be printed, or nobody takes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str | bytes, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        (sys.executable, "-m", "guest_owner", *arguments),
        capture_output=True,
        check=False,
        env={
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONIOENCODING": f"{encoding}:strict",
        },
    )


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_name_that_cannot_be_printed_is_escaped(tmp_path: Path, encoding: str) -> None:
    state = os.fsencode(tmp_path) + b"/state-\xff"
    done = run("kbs", "init", "--name", "kbs.example", "--state", state, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"/state-\\udcff for kbs.example\n" in done.stdout
    assert (Path(os.fsdecode(state)) / "ca.pem").exists()


def test_help_is_printed_in_every_encoding() -> None:
    done = run("launch-secret", "--help", encoding="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb" \u2026 --inject-secret" in done.stdout
