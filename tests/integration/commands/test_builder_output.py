"""What the builder's commands do if nobody takes what they print."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.published.built_image import write_built_image


def run(*arguments: str, unbuffered: str = "", **redirected: Any) -> tuple[int, str]:
    """Return the status and the words of a command whose output goes where it is sent."""
    done = subprocess.run(
        (sys.executable, "-m", "measured_boot", *arguments),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONUNBUFFERED": unbuffered,
        },
        **redirected,
    )
    return done.returncode, done.stderr


def test_output_is_taken_by_somebody() -> None:
    assert run("platforms", stdout=subprocess.PIPE) == (0, "")


def test_reader_that_went_away_ends_the_command_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert run("platforms", stdout=writing) == (1, "")
    os.close(writing)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_finds_no_room_is_a_failure(unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        status, words = run("platforms", stdout=full, unbuffered=unbuffered)
    assert (status, words) == (1, "measured-boot: standard output: No space left on device\n")


def test_help_that_finds_no_room_or_no_reader_is_a_failure() -> None:
    with Path("/dev/full").open("w") as full:
        status, words = run("--help", stdout=full)
    assert (status, words) == (1, "measured-boot: standard output: No space left on device\n")
    reading, writing = os.pipe()
    os.close(reading)
    assert run("--help", stdout=writing) == (1, "")
    os.close(writing)


def test_output_that_was_closed_before_is_a_null_one(tmp_path: Path) -> None:
    image = write_built_image(tmp_path)
    written = tmp_path / "reference.json"
    command = ("predict", str(image), "--output", str(written))
    assert run(*command, preexec_fn=lambda: os.close(1)) == (0, "")
    assert json.loads(written.read_text())["name"] == "ccinit-prod"
