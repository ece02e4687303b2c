"""Folders of sockets: what is in use stays, what a killed process left goes."""

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from host_runtime.programs.process import python_environment
from host_runtime.programs.socket_folder import open_socket_folder

HOLD = """
from host_runtime.programs.socket_folder import open_socket_folder
with open_socket_folder() as folder:
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def _parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_folder_is_private_and_removed_with_its_content(tmp_path: Path) -> None:
    with open_socket_folder() as folder:
        (folder / "socket").touch()
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_only_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    environment = {**python_environment(), "XDG_RUNTIME_DIR": str(tmp_path)}
    with subprocess.Popen(
        (sys.executable, "-c", HOLD),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as holder:
        assert holder.stdout is not None
        held = Path(holder.stdout.readline().strip())
        (held / "socket").touch()
        (tmp_path / "ccinit-elsewhere").mkdir()
        with open_socket_folder() as own, open_socket_folder() as other:
            assert {held, own, other} <= set(tmp_path.iterdir())
        holder.send_signal(signal.SIGKILL)
    assert held.exists()
    with open_socket_folder() as own:
        assert set(tmp_path.iterdir()) == {own, tmp_path / "ccinit-elsewhere"}


@pytest.mark.parametrize(
    "make", [Path.touch, lambda path: path.symlink_to(path.parent / "precious")]
)
def test_name_that_is_no_folder_is_left_alone(tmp_path: Path, make: object) -> None:
    assert callable(make)
    precious = tmp_path / "precious"
    precious.mkdir()
    make(tmp_path / "ccinit-run-x")
    with open_socket_folder():
        assert (tmp_path / "ccinit-run-x").exists()
        assert precious.exists()


def test_folder_of_another_user_is_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "ccinit-run-foreign"
    foreign.mkdir()
    shutil.chown(foreign, 12345)
    with open_socket_folder():
        assert foreign.exists()


def test_runtime_folder_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `su` leaves it: what is root's would lie where that user may rename it."""
    theirs, temporary = tmp_path / "theirs", tmp_path / "temporary"
    for path in (theirs, temporary):
        path.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(theirs))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with open_socket_folder() as folder:
        assert folder.parent == theirs
    shutil.chown(theirs, 12345)
    with open_socket_folder() as folder:
        assert folder.parent == temporary


@pytest.mark.parametrize("named", ["gone", "file", ""])
def test_runtime_folder_that_is_none_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """It goes when its user logs out, and what they have started goes on."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / named) if named else "")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with open_socket_folder() as folder:
        assert folder.parent == temporary


@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o755, 12345)])
def test_folder_in_which_others_may_rename_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tmp_path.chmod(0o1777)
    with open_socket_folder() as folder:
        assert folder.parent == tmp_path
    tmp_path.chmod(mode)
    shutil.chown(tmp_path, owner)
    with pytest.raises(ConfigError) as error, open_socket_folder():
        pytest.fail("others could put a folder of theirs there")
    assert error.value.reason == "sockets.folder"
    assert list(tmp_path.iterdir()) == []
