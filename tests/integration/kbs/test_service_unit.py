"""docs/examples/kbs.service: systemd understands every line, and so does `guest-owner`."""

import argparse
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import guest_owner.cli
from rootfs_builder.tools_tree import ToolsTree

TOOLS = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
UNIT = Path("docs/examples/kbs.service")


def analyze(text: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Let systemd judge a unit, whose programs are ones that are there."""
    unit = folder / UNIT.name
    unit.write_text(re.sub(r"^(Exec\w+)=\S+", r"\1=/usr/bin/true", text, flags=re.MULTILINE))
    command = TOOLS.command(("systemd-analyze", *arguments, unit), directories=(folder.absolute(),))
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_takes_every_line(tmp_path: Path) -> None:
    text = UNIT.read_text()
    done = analyze(text, tmp_path, "verify", "--man=no")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wrong = analyze(text.replace("ProtectProc=", "ProtectProcess="), tmp_path, "verify", "--man=no")
    assert "Unknown key 'ProtectProcess' in section [Service], ignoring." in wrong.stderr


def test_service_has_nothing_but_its_state_and_its_port(tmp_path: Path) -> None:
    """By systemd's own measure, in tenths: 0 is nothing, 100 all of the machine."""
    text = UNIT.read_text()
    limited = ("security", "--offline=true", "--threshold=15", "--no-pager")
    assert analyze(text, tmp_path, *limited).returncode == 0
    as_root = text.replace("User=kbs\n", "").replace("ProtectSystem=strict\n", "")
    assert analyze(as_root, tmp_path, *limited).returncode == 1


def test_command_is_one_that_guest_owner_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    program, *words = shlex.split(line)
    assert Path(program).name == "guest-owner"
    seen: list[argparse.Namespace] = []

    def note(arguments: argparse.Namespace) -> int:
        seen.append(arguments)
        return 0

    monkeypatch.setattr("guest_owner.commands.kbs._serve", note)
    assert guest_owner.cli.main(words) == 0
    (parsed,) = seen
    assert (str(parsed.state), parsed.listen) == ("/var/lib/kbs", ("::", 8443))
