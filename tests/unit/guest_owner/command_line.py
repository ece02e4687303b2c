"""Run a command of `guest-owner` as a person would."""

import pytest

from guest_owner.cli import main


def run(*arguments: object) -> int:
    """Return the exit status."""
    return main([str(argument) for argument in arguments])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was written to standard error since the last call."""
    return capsys.readouterr().err
