"""Ctrl-C while a command's libraries load: at chosen imports, and at the end of the interpreter."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Runs a console script as its wrapper does, and interrupts itself where argv[1] says; also where
# the tests run in the background of a shell, which has its jobs ignore that.
PROGRAM = """
import atexit, importlib, os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == where:
            interrupt()

where, entry, *arguments = sys.argv[1:]
sys.meta_path.insert(0, AtImport())
if where == "exit":
    atexit.register(interrupt)
module, name = entry.split(":")
main = getattr(importlib.import_module(module), name)
sys.argv[1:] = arguments
sys.exit(main())
"""
FOLDERS = {
    "guest-owner": (
        "guest_owner.cli",
        "cryptography",
        "uvicorn",
        "guest_owner.commands.volume_key",
    ),
    "host-runtime": ("host_runtime.cli", "argparse", "host_runtime.commands.boot"),
    "measured-boot": ("measured_boot.cli", "argparse", "measured_boot.commands.verify"),
    "rootfs-builder": ("rootfs_builder.cli", "argparse", "rootfs_builder.workspace"),
}
CASES = [
    pytest.param(program, where, id=f"{program} at {where}")
    for program, instants in FOLDERS.items()
    for where in (*instants, "exit")
]


def run(program: str, where: str) -> tuple[int, str, str]:
    scripts = tomllib.loads((ROOT / program / "pyproject.toml").read_text())["project"]["scripts"]
    done = subprocess.run(
        (sys.executable, "-c", PROGRAM, where, scripts[program], "--help"),
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("program", "where"), CASES)
def test_interrupt_while_a_command_begins_or_ends_is_one_line(program: str, where: str) -> None:
    status, output, words = run(program, where)
    assert (status, words) == (130, f"{program}: interrupted\n")
    assert output.startswith(f"usage: {program} ") is (where == "exit")  # its help is out by then


@pytest.mark.parametrize("program", FOLDERS)
def test_command_that_is_not_interrupted_helps(program: str) -> None:
    status, output, words = run(program, "nowhere")
    assert (status, words) == (0, "")
    assert output.startswith(f"usage: {program} ")
