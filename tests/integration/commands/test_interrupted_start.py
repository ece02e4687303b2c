"""Ctrl-C while a command's libraries load: at chosen imports, and at the end of the interpreter."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Runs a console script as its wrapper does, or a module as `python -m` does, and interrupts itself
# where argv[1] says; also where the tests run in the background of a shell, which has its jobs
# ignore that.
PROGRAM = """
import atexit, importlib, os, runpy, signal, sys

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
sys.argv[1:] = arguments
module, _, name = entry.partition(":")
if name:
    sys.exit(getattr(importlib.import_module(module), name)())
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
FOLDERS = {
    "guest-owner": (
        "guest_owner.cli",
        "cryptography",
        "uvicorn",
        "guest_owner.commands.volume_key",
    ),
    "host-runtime": ("host_runtime.cli", "argparse", "host_runtime.commands.boot"),
    "ccinit-runtime": (
        "host_runtime.oci_runtime.cli",
        "argparse",
        "host_runtime.oci_runtime.signals",
    ),
    "measured-boot": ("measured_boot.cli", "argparse", "measured_boot.commands.verify"),
    "rootfs-builder": ("rootfs_builder.cli", "argparse", "rootfs_builder.workspace"),
}
WAYS = ("by its script", "by -m")
PROJECTS = {"ccinit-runtime": "host-runtime"}
CASES = [
    pytest.param(program, where, way, id=f"{program} {way} at {where}")
    for program, instants in FOLDERS.items()
    for where in (*instants, "exit")
    for way in WAYS
]


def run(program: str, where: str, way: str) -> tuple[int, str, str]:
    project = ROOT / PROJECTS.get(program, program) / "pyproject.toml"
    entry: str = tomllib.loads(project.read_text())["project"]["scripts"][program]
    begin = module_of(entry) if way == "by -m" else entry
    done = subprocess.run(
        (sys.executable, "-c", PROGRAM, where, begin, "--help"),
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return done.returncode, done.stdout, done.stderr


def module_of(entry: str) -> str:
    """Return what `python -m` takes for a command."""
    return entry.removesuffix(".entry:main")


@pytest.mark.parametrize(("program", "where", "way"), CASES)
def test_interrupt_while_a_command_begins_or_ends_is_one_line(
    program: str, where: str, way: str
) -> None:
    status, output, words = run(program, where, way)
    assert (status, words) == (130, f"{program}: interrupted\n")
    assert output.startswith(f"usage: {program} ") is (where == "exit")  # its help is out by then


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", FOLDERS)
def test_command_that_is_not_interrupted_helps(program: str, way: str) -> None:
    status, output, words = run(program, "nowhere", way)
    assert (status, words) == (0, "")
    assert output.startswith(f"usage: {program} ")
