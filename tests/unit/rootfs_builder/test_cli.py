"""The command reports failures by their reason and exits with a status."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from rootfs_builder import cli
from rootfs_builder.guest_image.build import ImageBuild
from rootfs_builder.guest_image.debug_tools import DebugToolsBuild
from rootfs_builder.packages.lock import encode_lock
from rootfs_builder.packages.quarry import Quarry
from rootfs_builder.tools_tree import ToolsTree
from rootfs_builder.workspace import Workspace
from tests.fakes.published.built_image import write_built_image
from tests.fakes.published.erofs_images import erofs_image
from tests.unit.rootfs_builder.packages.small_lock import LOCK

FIND_TOOLS = cli._tools


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    def ready(workspace: Workspace, *, offline: bool = False) -> ToolsTree:
        assert not offline
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
    monkeypatch.setattr(cli, "exclusive", lambda *_: nullcontext())
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


@pytest.mark.parametrize("wrong", ["key", "output"])
def test_image_looks_at_what_it_writes_with_before_it_builds(
    wrong: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ImageBuild, "run", lambda *_: pytest.fail("minutes later"))
    (tmp_path / wrong).write_text("no key, and no folder")
    command = ["--builder-key", str(tmp_path / "key"), "--output", str(tmp_path / "output")]
    assert cli.main(["image", *command]) == 1
    assert f"{tmp_path / wrong}" in capsys.readouterr().err
    assert not (tmp_path / "output").is_dir()


def test_failure_is_one_reason_and_one_detail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_build: ImageBuild, _profiles: tuple[str, ...]) -> tuple[Path, ...]:
        raise ConfigError("lock.release", "not as locked")

    monkeypatch.setattr(ImageBuild, "run", run)
    places = ["--builder-key", str(tmp_path / "key"), "--output", str(tmp_path / "image")]
    assert cli.main(["image", *places]) == 1
    assert capsys.readouterr().err == "rootfs-builder: not as locked [lock.release]\n"


@pytest.mark.parametrize("found", ["nothing", "a folder", "files"])
def test_failed_build_leaves_the_output_folder_as_it_was(
    found: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(build: ImageBuild, _profiles: tuple[str, ...]) -> tuple[Path, ...]:
        assert build.output.is_dir()
        raise ConfigError("lock.release", "not as locked")

    monkeypatch.setattr(ImageBuild, "run", run)
    output = tmp_path / "image"
    if found != "nothing":
        output.mkdir()
    if found == "files":
        (output / "image-id").touch()
    before = sorted(tmp_path.rglob("image*"))
    assert cli.main(["image", "--builder-key", str(tmp_path / "key"), "--output", str(output)]) == 1
    assert sorted(tmp_path.rglob("image*")) == before


@pytest.mark.parametrize("full", ["images", "debug tools", "publication"])
def test_disk_that_is_full_is_named(
    full: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(step: str) -> None:
        if step == full:
            Path("/dev/full").write_bytes(b"which tells no name")

    def build(_build: ImageBuild, _profiles: tuple[str, ...]) -> tuple[Path, ...]:
        write("images")
        return ()

    def publish(*_: object) -> str:
        write("publication")
        return "an id"

    monkeypatch.setattr(ImageBuild, "run", build)
    monkeypatch.setattr(DebugToolsBuild, "run", lambda _build: write("debug tools"))
    monkeypatch.setattr(cli, "publish", publish)
    monkeypatch.setattr(cli, "exclusive", lambda *_: nullcontext())
    output, staging = tmp_path / "image", Path.cwd() / "build" / "staging"
    places = ["--builder-key", str(tmp_path / "key"), "--output", str(output)]
    assert cli.main(["image", *places]) == 1
    place = output if full == "publication" else staging.resolve()
    assert f"rootfs-builder: {place}: No space left on device\n" in capsys.readouterr().err


def test_unknown_profile_is_refused() -> None:
    with pytest.raises(SystemExit):
        cli.main(["image", "--profile", "debug"])


def test_project_without_configuration_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["image", "--project", str(tmp_path)]) == 1
    said = f"rootfs-builder: {tmp_path} has no mkosi.conf [project.missing]\n"
    assert capsys.readouterr().err == said


def test_command_outside_the_repository_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--repository", str(tmp_path), "tools"]) == 1
    assert capsys.readouterr().err.endswith("name ccinit's --repository [repository.missing]\n")
    assert not list(tmp_path.iterdir())


def test_comparison_with_a_folder_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "absent"
    assert cli.main(["compare", str(absent), str(absent)]) == 1
    assert capsys.readouterr().err == f"rootfs-builder: {absent}: No such file or directory\n"


def test_comparison_with_an_empty_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", str(tmp_path), str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith("nothing that was published [image.missing]\n")


def test_project_builds_into_its_own_folder_and_no_debug_tools(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = tmp_path / "shop"
    project.mkdir()
    (project / "mkosi.conf").write_text("[Include]\nInclude=../ccinit\n")
    (project / "packages.lock").write_text("date 2026-01-02T03:04:05Z\n")
    outputs: list[Path] = []

    def run(build: ImageBuild, _profiles: tuple[str, ...]) -> tuple[Path, ...]:
        outputs.append(build.output)
        return (write_built_image(build.output),)

    monkeypatch.setattr(ImageBuild, "run", run)
    monkeypatch.setattr(DebugToolsBuild, "run", lambda _build: pytest.fail("not of a project"))
    monkeypatch.setattr(cli, "exclusive", lambda *_: nullcontext())
    assert cli.main(["image", "--project", str(project)]) == 0
    assert outputs == [project / "build/image"]
    assert (project / "build/image/SHA256SUMS").is_file()


def test_compare_says_what_differs_and_how_by_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        write_built_image(folder)
    command = ["compare", *map(str, folders)]
    assert cli.main(command) == 0
    (folders[1] / "ccinit-prod.direct.cmdline").write_bytes(b"quiet oops=panic ccinit.carrier=disc")
    assert cli.main(command) == 1
    assert capsys.readouterr().out == (
        "the same bytes\nccinit-prod.direct.cmdline: line 1: 'k' and 'c'\n"
    )


def test_compare_needs_repository_and_tools_only_to_look_into_what_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_tools", FIND_TOOLS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("first", "second"):
        write_built_image(tmp_path / name)
    command = ["compare", "../first", "../second"]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == "the same bytes\n"
    for name in ("first", "second"):
        root = erofs_image({"etc/hostname": name})
        (tmp_path / name / "ccinit-prod.root.erofs").write_bytes(root)
    assert cli.main(command) == 1
    said = capsys.readouterr().out
    assert said.startswith("ccinit-prod.root.erofs: byte ")
    assert "has no mkosi.conf: name ccinit's --repository" in said


def test_offline_no_tools_tree_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is made of what archives offer."""

    def begin(*_details: object) -> ToolsTree:
        raise ConfigError("archives.asked", "")

    monkeypatch.setattr(cli, "_tools", FIND_TOOLS)
    monkeypatch.setattr(cli, "build_tools_tree", begin)
    (tmp_path / "mkosi.conf").touch()
    lists = tmp_path / "rootfs-builder/mkosi"
    lists.mkdir(parents=True)
    (lists / "tools.list").write_text("zstd # reason\n")
    command = ["--repository", str(tmp_path), "image", "--builder-key", str(tmp_path / "key")]
    monkeypatch.setenv("CCINIT_TOOLS", "")  # is none, and not the folder one happens to be in
    for more, reason in (([], "archives.asked"), (["--offline"], "tools.other")):
        assert cli.main([*command, *more]) == 1
        assert f"[{reason}]" in capsys.readouterr().err


def test_lock_says_what_changed_and_then_that_no_image_can_be_made_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mkosi.conf").touch()
    lock = Workspace(tmp_path).package_lock
    lock.parent.mkdir()
    lock.write_text(encode_lock(LOCK))
    quarry = Quarry(tree=ToolsTree(tmp_path), packages=(), kernel_release="6.12")
    judged: list[str] = []

    def refuse(_workspace: Workspace, _quarry: Quarry, line: str) -> None:
        judged.append(line)
        if line == "test":
            raise ConfigError("platform.unknown", "no known platform has systemd-stub 262")

    monkeypatch.setattr(cli, "exclusive", lambda *_: nullcontext())
    monkeypatch.setattr(cli, "renew_wheel_lock", lambda *_: ())
    monkeypatch.setattr(cli, "renew_package_lock", lambda *_, **__: (("stub: 257 -> 262",), ()))
    monkeypatch.setattr(cli, "build_quarry", lambda *_: quarry)
    monkeypatch.setattr(cli, "read_command_line", lambda _workspace, _tools, profile: profile)
    monkeypatch.setattr(cli, "require_suitable", refuse)
    assert cli.main(["--repository", str(tmp_path), "lock"]) == 1
    said = capsys.readouterr()
    assert "  stub: 257 -> 262\n" in said.out
    refusal = "rootfs-builder: no known platform has systemd-stub 262 [platform.unknown]\n"
    assert said.err == refusal
    assert judged == ["prod", "test"]
    monkeypatch.setattr(cli, "require_suitable", lambda *_: None)
    assert cli.main(["--repository", str(tmp_path), "lock"]) == 0
