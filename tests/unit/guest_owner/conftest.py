import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.guest_owner.command_line import run


@pytest.fixture
def state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A new state directory."""
    state = tmp_path / "state"
    assert run("kbs", "init", "--state", state, "--name", "kbs.example") == 0
    capsys.readouterr()
    return state


@pytest.fixture
def usual_umask() -> Iterator[None]:
    """That of most users, whoever runs the tests."""
    before = os.umask(0o022)
    yield
    os.umask(before)
