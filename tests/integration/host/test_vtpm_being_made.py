"""A vTPM whose maker is killed, or that two make at once.

Needs the tools tree (`CCINIT_TOOLS`, or build/tools).
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from host_runtime.commands.boot_plan import _have_tpm_made
from host_runtime.machine import swtpm
from host_runtime.machine.swtpm import VirtualTpm, manufacture_tpm
from host_runtime.programs.process import python_environment
from host_runtime.programs.tools import Tools

TOOLS = Tools(tree=Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
BEGIN = """
import sys
from pathlib import Path
from host_runtime.machine import swtpm
from host_runtime.programs.tools import Tools
def wait(_tools, made, _sockets):
    print(made, flush=True)
    input()
swtpm._provision = wait
swtpm.manufacture_tpm(Tools(), Path(sys.argv[1]))
"""


def test_next_one_removes_what_a_killed_maker_left_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = tmp_path / "tpm", tmp_path / ".tpm.backup"
    other.mkdir()
    with subprocess.Popen(
        (sys.executable, "-c", BEGIN, folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=python_environment(),
    ) as maker:
        assert maker.stdout is not None
        half = Path(maker.stdout.readline().strip())
        monkeypatch.setattr(swtpm, "_provision", lambda *_: None)
        manufacture_tpm(TOOLS, folder)
        assert {half, other, folder} == set(tmp_path.iterdir())
        maker.send_signal(signal.SIGKILL)
    assert half.exists()
    folder.rename(tmp_path / "old")
    manufacture_tpm(TOOLS, folder)
    assert {other, folder, tmp_path / "old"} == set(tmp_path.iterdir())


def test_two_at_once_make_one_that_both_can_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tpm"

    def provision(new: Path, by: str) -> None:
        (new / "ak.der").write_text(by)
        (new / "state/tpm2-00.permall").touch()

    def made(_tools: Tools, new: Path, _sockets: Path) -> None:
        with monkeypatch.context() as patch:  # as by another process meanwhile
            patch.setattr(swtpm, "_provision", lambda _tools, other, _: provision(other, "second"))
            manufacture_tpm(TOOLS, folder)
        provision(new, "first")

    monkeypatch.setattr(swtpm, "_provision", made)
    with pytest.raises(FileExistsError) as refused:
        manufacture_tpm(TOOLS, folder)
    assert refused.value.filename == str(folder)
    assert list(tmp_path.iterdir()) == [folder]
    folder.rename(tmp_path / "old")
    _have_tpm_made(TOOLS, VirtualTpm(folder=folder))
    assert VirtualTpm(folder=folder).ak_public_der() == b"second"
