"""No command ends in a traceback, whatever file it is given, and on whatever disk it writes.

Needs the tools tree (`CCINIT_TOOLS`, or build/tools).
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.commands.bad_files import (
    ELSEWHERE,
    PARSERS,
    PROGRAMS,
    READING,
    WRITING,
    make_bad_files,
    make_good_files,
)
from tests.integration.leftovers import awaited

_FULL = "No space left on device"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_good_files(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_bad_files(tmp_path_factory.mktemp("bad"))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that takes names, and no byte more."""
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=4k", "none", folder), check=True)
    (folder / "all").write_bytes(bytes(4096))
    yield folder
    subprocess.run(("umount", folder), check=True)


def rows(table: dict[str, tuple[str, ...]]) -> list[object]:
    return [
        pytest.param(program, line, id=f"{program} {line}")
        for program, lines in table.items()
        for line in lines
    ]


def run(program: str, line: str, names: dict[str, Path]) -> int:
    """Return the exit status; what no command catches is an error of the test."""
    words = (word.format_map(names) for word in line.split())
    try:
        return PROGRAMS[program](list(words))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1


@pytest.mark.parametrize(("program", "line"), rows(READING))
def test_bad_file_is_told_with_its_name(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, Path],
    bad_files: dict[str, Path],
    program: str,
    line: str,
) -> None:
    unnamed = {}
    for kind, bad in bad_files.items():
        new = tmp_path / kind
        before = bad.read_bytes() if bad.is_file() and kind != "unreadable" else None
        status = run(program, line, {**files, "bad": bad, "new": new})
        said = capsys.readouterr().err
        assert status == 1, (kind, said)
        assert said.startswith(f"{program}: "), kind
        assert len(said) < 1000, kind
        if not any(name in said for name in (str(bad), str(bad.parent), "[aa.", "[cdh.")):
            unnamed[kind] = said
        assert not new.exists(), kind
        assert before is None or bad.read_bytes() == before
    assert unnamed == {}


@pytest.mark.parametrize(("program", "line"), rows(WRITING))
def test_disk_that_is_full_is_told_and_leaves_no_half_of_a_file(
    capsys: pytest.CaptureFixture[str],
    files: dict[str, Path],
    full_disk: Path,
    program: str,
    line: str,
) -> None:
    state = full_disk.with_name("state")
    shutil.copytree(files["state"], state)
    assert run(program, line, {**files, "state": state, "new": full_disk / "new"}) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(f"{program}: ")
    assert _FULL in said
    assert str(full_disk) in said
    assert [path.name for path in full_disk.rglob("*") if is_written(path)] == ["all"]


def is_written(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0  # locks are empty


def commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield each command's words."""
    inner = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not inner:
        yield ""
    for name, command in inner[0].choices.items() if inner else ():
        yield from (f"{name} {words}".strip() for words in commands(command))


@pytest.mark.parametrize("program", PARSERS)
def test_every_command_has_its_row(program: str) -> None:
    table = (*READING[program], *WRITING[program])
    lines = [f"{re.sub('^--repository [^ ]+ ', '', line)} " for line in table]
    for command in commands(PARSERS[program]()):
        has_row = any(line.startswith(f"{command} ") for line in lines)
        assert has_row is (command not in ELSEWHERE[program]), command


@contextmanager
def started(
    program: str, *words: str, stdout: int | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Start a command as its console script does.

    Its interrupts are as a terminal's: a shell has its jobs in the background ignore them.
    """
    package = program.replace("-", "_")
    name = "host_runtime.oci_runtime" if program == "ccinit-runtime" else package
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command = subprocess.Popen(
            (sys.executable, "-m", name, *words),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    finally:
        signal.signal(signal.SIGINT, ours)
    with awaited(command):
        yield command


@pytest.mark.parametrize("program", PROGRAMS)
def test_reader_that_has_enough_ends_a_command_without_a_word(program: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with started(program, "--help", stdout=writing) as command:
        os.close(writing)
        assert command.stderr is not None
        assert command.stderr.read() == ""
    assert command.returncode == 1


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("guest-owner", "initdata show {bad}"),
        ("host-runtime", READING["host-runtime"][2]),
        ("measured-boot", "predict {bad}"),
        ("rootfs-builder", "--repository {repository} image --builder-key {bad}"),
    ],
)
def test_interrupt_in_the_middle_is_one_line(
    tmp_path: Path, files: dict[str, Path], program: str, line: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    words = line.format_map({**files, "bad": pipe, "new": tmp_path / "new"}).split()
    with started(program, *words) as command:
        writer = os.open(pipe, os.O_WRONLY)  # as soon as the command reads
        command.send_signal(signal.SIGINT)
        assert command.stderr is not None
        assert command.stderr.read() == f"{program}: interrupted\n"
        os.close(writer)
    assert command.returncode == 130
