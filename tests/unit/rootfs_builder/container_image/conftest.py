"""Tools that are played, and an image to work on."""

from pathlib import Path

import pytest

from rootfs_builder.container_image import command
from tests.unit.rootfs_builder.container_image.command_line import CALLS, Tools, run


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.setattr(command, "ToolsTree", Tools)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "srv").mkdir(parents=True)
    (root / "srv/app").write_text("app")
    words = ("--directory", root, "--compression", "gzip", "--entrypoint", "/srv/app")
    run("build", tmp_path / "plain", *words, "--env", "A=1", "--user", "7:7", "--cwd", "/srv")
    return tmp_path / "plain"
