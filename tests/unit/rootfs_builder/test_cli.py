"""The command reports failures by their reason and exits with a status."""

from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from rootfs_builder import cli
from rootfs_builder.debug_tools import DebugToolsBuild
from rootfs_builder.image import ImageBuild
from rootfs_builder.tools_tree import ToolsTree
from rootfs_builder.workspace import Workspace
from tests.fakes.built_image import write_built_image


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    def ready(workspace: Workspace) -> ToolsTree:
        return ToolsTree(workspace.build / "tools")

    monkeypatch.setattr(cli, "_tools", ready)


def test_image_builds_all_profiles_unless_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[Path, bool, tuple[str, ...]]] = []

    def run(build: ImageBuild, profiles: tuple[str, ...]) -> tuple[Path, ...]:
        calls.append((build.output, build.packages.release, tuple(profiles)))
        return (build.output / "ccinit-prod.json",)

    tools: list[Path] = []
    monkeypatch.setattr(ImageBuild, "run", run)
    monkeypatch.setattr(DebugToolsBuild, "run", lambda build: tools.append(build.output))
    key = str(tmp_path / "key.pem")
    output = tmp_path / "image"
    write_built_image(output)
    command = ["image", "--builder-key", key, "--output", str(output)]
    assert cli.main(command) == 0
    assert cli.main([*command, "--profile", "test", "--release"]) == 0
    assert calls == [(output, False, ("prod", "test")), (output, True, ("test",))]
    assert tools == [output, output]
    image_id = (output / "image-id").read_text().strip()
    assert capsys.readouterr().out.splitlines() == [str(output / "ccinit-prod.json"), image_id] * 2


def test_failure_is_one_reason_and_one_detail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_build: ImageBuild, _profiles: tuple[str, ...]) -> tuple[Path, ...]:
        raise ConfigError("lock.release", "not as locked")

    monkeypatch.setattr(ImageBuild, "run", run)
    assert cli.main(["image"]) == 1
    assert capsys.readouterr().err == "rootfs-builder: lock.release\nnot as locked\n"


def test_unknown_profile_is_refused() -> None:
    with pytest.raises(SystemExit):
        cli.main(["image", "--profile", "debug"])
