"""Commands enter the tree as planned, and the tree follows its list."""

import errno
import io
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Self

import pytest

from ccinit.errors import ConfigError
from rootfs_builder import tools_tree
from rootfs_builder.apt_sources import AptSource
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import (
    ToolsTree,
    build_tools_tree,
    open_tools_tree,
    tools_key,
)

DEBIAN = tuple(
    AptSource(uri=f"http://mirror.invalid/{name}", suites=(suite,), components=("main",))
    for name, suite in (("debian", "trixie"), ("debian-security", "trixie-security"))
)


def arguments_inside(command: tuple[str, ...]) -> list[str]:
    return list(command[command.index("/usr/bin/env") :])


def test_command_carries_its_own_environment_and_nothing_of_the_hosts(tmp_path: Path) -> None:
    command = ToolsTree(tmp_path).command(
        ["mkosi", "--version"], environment={"A": "b c"}, working_directory=Path("/w d")
    )
    inside = arguments_inside(command)
    assert inside[:3] == ["/usr/bin/env", "-i", "--chdir=/w d"]
    assert inside[-2:] == ["mkosi", "--version"]
    assert "A=b c" in inside
    assert {entry.split("=")[0] for entry in inside[3:-2]} == {"A", "HOME", "LC_ALL", "PATH", "TZ"}


def test_command_shares_directories_at_their_own_path_and_mounts_elsewhere(tmp_path: Path) -> None:
    work = tmp_path / "a b"
    work.mkdir()
    command = ToolsTree(tmp_path).command(
        ["true"], directories=[work], mounts={tmp_path: Path("/repository")}
    )
    start = command.index("tools-tree")
    assert list(command[start + 1 : command.index("/usr/bin/env")]) == [
        *(str(tmp_path), "2"),
        *(str(work), str(work)),
        *(str(tmp_path), "/repository"),
    ]


def test_tree_that_is_none_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        ToolsTree(tmp_path / "nowhere").run(["true"])
    assert refused.value.reason == "tools.missing"
    assert str(tmp_path / "nowhere") in refused.value.detail


def test_user_without_root_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be `unshare: unshare failed: Operation not permitted`."""
    (tmp_path / "mnt").mkdir()
    ran: list[object] = []

    def run(command: object, **_streams: object) -> "subprocess.CompletedProcess[bytes]":
        ran.append(command)
        return subprocess.CompletedProcess((), 0, b"done", b"")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError) as refused:
        ToolsTree(tmp_path).run(("/usr/bin/mkosi", "build"))
    assert refused.value.reason == "tools.root"
    assert refused.value.detail.startswith("running mkosi of the tools tree needs root")
    assert ran == []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert ToolsTree(tmp_path).run(("/usr/bin/mkosi", "build")) == b"done"


def test_command_stays_one_process() -> None:
    command = ToolsTree(Path("/tree")).command(["true"])
    assert command[:2] == ("unshare", "--mount")
    assert "--fork" not in command


def test_key_depends_on_the_packages_and_not_on_their_order() -> None:
    assert tools_key(["a", "b"]) == tools_key(["b", "a"])
    assert tools_key(["a", "b"]) != tools_key(["a", "c"])


def test_tree_made_from_the_same_list_is_kept(tmp_path: Path) -> None:
    package_list = tmp_path / "tools.list"
    package_list.write_text("a # reason\n")
    tree = tmp_path / "tools"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/ccinit-tools.key").write_text(tools_key(["a"]) + "\n")
    assert build_tools_tree(tree, package_list, Progress(name="test")).path == tree


class Mmdebstrap:
    """Stands for a process that makes a tree, and for what interrupts whoever waits for it."""

    returncode = 0

    def __init__(self, tree: Path, end: BaseException | None) -> None:
        self.stdin = io.BytesIO()
        self._tree = tree
        self._end = end

    @property
    def stderr(self) -> Iterator[bytes]:
        (self._tree / "etc").mkdir(parents=True)
        yield b"I: installing\n"
        if self._end is not None:
            raise self._end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None: ...


@pytest.mark.parametrize("end", [None, KeyboardInterrupt(), SystemExit(143)])
def test_nothing_stays_beside_a_tree_however_its_making_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException | None
) -> None:
    package_list = tmp_path / "tools.list"
    package_list.write_text("a # reason\n")
    folder, settings = tmp_path / "build", []

    def run(command: Sequence[str], **_streams: object) -> Mmdebstrap:
        settings.append(Path(command[3].removeprefix("--aptopt=")).read_text())
        return Mmdebstrap(folder / "tools.partial", end)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(subprocess, "Popen", run)
    monkeypatch.setattr(tools_tree, "_require_mmdebstrap", lambda _progress: None)
    monkeypatch.setattr(tools_tree, "read_host_sources", lambda: DEBIAN)
    monkeypatch.setattr(tools_tree, "read_apt_configuration", lambda: 'Acquire::Retries "3";\n')
    with nullcontext() if end is None else pytest.raises(type(end)):
        build_tools_tree(folder / "tools", package_list, Progress(name="test"))
    assert settings == ['Acquire::Retries "3";\n']
    left = {path.name for path in folder.iterdir()}
    assert left == ({"tools", "tools.lock"} if end is None else {"tools.lock"})


class GoneReader(io.BytesIO):
    """The input of a program that has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.tries = 0

    def write(self, _data: object, /) -> int:
        self.tries += 1
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def close(self) -> None:
        super().close()
        if self.tries:  # the buffer is tried once more
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_mmdebstrap_that_ends_before_it_reads_is_told_by_its_own_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error of writing to it would end the builder without a word, as `| head` does."""

    class Ended(Mmdebstrap):
        returncode = 25

        def __init__(self, *_command: object, **_streams: object) -> None:
            self.stdin = GoneReader()

        @property
        def stderr(self) -> Iterator[bytes]:
            yield b"E: no such suite\n"

    monkeypatch.setattr(subprocess, "Popen", Ended)
    with pytest.raises(ConfigError, match="E: no such suite") as refused:
        tools_tree._run_mmdebstrap(("mmdebstrap",), b"deb", Progress(name="test"))
    assert refused.value.reason == "tools.mmdebstrap"


def test_tree_of_somebody_else_is_used_but_never_replaced(tmp_path: Path) -> None:
    package_list = tmp_path / "tools.list"
    package_list.write_text("a # reason\n")
    tree = tmp_path / "tools"
    (tree / "etc").mkdir(parents=True)
    key = tree / "etc/ccinit-tools.key"
    key.write_text(tools_key(["a"]) + "\n")
    assert open_tools_tree(tree, package_list).path == tree
    key.write_text(tools_key(["b"]) + "\n")
    with pytest.raises(ConfigError) as error:
        open_tools_tree(tree, package_list)
    assert error.value.reason == "tools.other"
    assert key.read_text() == tools_key(["b"]) + "\n"


def test_tree_with_a_mount_in_it_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "a tree"
    (tree / "dev").mkdir(parents=True)
    escaped = str(tree).replace(" ", "\\040")
    mounts = f"20 1 0:5 / {escaped}/dev rw - devtmpfs dev rw\n"
    read_text = Path.read_text

    def mounted(path: Path) -> str:
        return mounts if path == Path("/proc/self/mountinfo") else read_text(path)

    monkeypatch.setattr(Path, "read_text", mounted)
    with pytest.raises(ConfigError) as error:
        tools_tree._remove(tree)
    assert error.value.reason == "tools.mounted"
    mounts = ""
    tools_tree._remove(tree)
    assert not tree.exists()
