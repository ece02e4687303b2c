"""A vTPM whose maker is killed, or that two make at once.

Needs the tools tree (`CCINIT_TOOLS`, or build/tools).
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from host_runtime.commands.boot_plan import _have_tpm_made
from host_runtime.machine.swtpm import VirtualTpm, manufacture_tpm
from host_runtime.programs import process
from host_runtime.programs.process import python_environment
from host_runtime.programs.tools import Tools

TREE = Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute()
TOOLS = Tools(tree=TREE)
BEGIN = """
import sys
from pathlib import Path
from host_runtime.machine.swtpm import manufacture_tpm
from host_runtime.programs import process
from host_runtime.programs.tools import Tools
def wait(*_, **_how):
    print("begun", flush=True)
    input()
process.run = wait
tree, folder = map(Path, sys.argv[1:])
manufacture_tpm(Tools(tree=tree), folder)
"""


def test_next_one_removes_what_a_killed_maker_left_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = tmp_path / "tpm", tmp_path / ".tpm.backup"
    other.mkdir()
    with subprocess.Popen(
        (sys.executable, "-c", BEGIN, TREE, folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=python_environment(),
    ) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "begun\n"
        (half,) = set(tmp_path.iterdir()) - {other}
        monkeypatch.setattr(process, "run", lambda *_, **_how: b"")
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

    run, keys = process.run, list[bytes]()

    def make_another(command: Sequence[str], **how: Any) -> bytes:
        if not folder.exists():  # as by another process meanwhile
            with monkeypatch.context() as patch:
                patch.setattr(process, "run", run)
                keys.append(manufacture_tpm(TOOLS, folder).ak_public_der())
        return run(command, **how)

    monkeypatch.setattr(process, "run", make_another)
    with pytest.raises(FileExistsError) as refused:
        manufacture_tpm(TOOLS, folder)
    assert refused.value.filename == str(folder)
    assert list(tmp_path.iterdir()) == [folder]
    folder.rename(tmp_path / "old")
    _have_tpm_made(TOOLS, VirtualTpm(folder=folder))
    assert VirtualTpm(folder=folder).ak_public_der() == keys[1]
