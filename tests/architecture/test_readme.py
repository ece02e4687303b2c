"""README and `make help` agree; command lines in documents are those that the commands take."""

import argparse
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import guest_owner.cli
import host_runtime.cli
import measured_boot.cli
import rootfs_builder.cli
from host_runtime.launch.guest_files import GuestFiles

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [
    "README.md",
    "host-runtime/README.md",
    "measured-boot/README.md",
    "rootfs-builder/README.md",
]
PAGES += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "guest-owner": guest_owner.cli.main,
    "host-runtime": host_runtime.cli.main,
    "measured-boot": measured_boot.cli.main,
    "rootfs-builder": rootfs_builder.cli.main,
}


def shell_lines(page: str) -> list[str]:
    """Every line of the page's shell blocks, continued lines joined."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        found += block.replace("\\\n", " ").splitlines()
    return found


def examples() -> list[tuple[str, str]]:
    """Every command line of our tools, with its page."""
    return [(page, line) for page in PAGES for line in shell_lines(page)
            if line.partition(" ")[0] in COMMANDS]  # fmt: skip


def test_readme_shows_every_make_target_as_make_help_does() -> None:
    printed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed in README


def test_readme_names_what_a_minimal_debian_lacks() -> None:
    (names,) = re.findall(r"^On Debian 12 or later with (.*), as root", README, re.MULTILINE)
    # `git` lists the files of the tree to tests, and says what has changed to `make faults`.
    # The wheel of `regopy`, the Rego engine of the tests, is linked with `libatomic1`.
    assert names == "`git`, `make`, `python3-venv` and `libatomic1`"


def test_readme_uses_every_tool() -> None:
    lines = [line for page, line in examples() if page == "README.md"]
    assert {line.partition(" ")[0] for line in lines} == set(COMMANDS)


@pytest.mark.parametrize("command", ["openssl rand -out", "flock owner/changes.lock tar -cf"])
def test_secret_that_another_program_writes_is_for_nobody_else_to_read(command: str) -> None:
    # Our own commands see to it themselves; a shell has umask 022.
    text = "".join((ROOT / page).read_text() for page in [*PAGES, "guest-owner/README.md"])
    assert text.count(command) > 1
    assert text.count(f"(umask 077; {command} ") == text.count(command)


def commands_of(program: str, monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, ...]]:
    """Every command of a program that does something, as the words that lead to it."""
    found: set[tuple[str, ...]] = set()

    def note(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> None:
        groups = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
        for group in groups:
            for name, inner in group.choices.items():
                note(inner, (*path, name))
        if not groups:
            found.add(path)

    def parse_args(parser: argparse.ArgumentParser, _words: object = None) -> None:
        note(parser, ())
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        with pytest.raises(Parsed):
            COMMANDS[program]([])
    return found


@pytest.mark.parametrize("program", ["host-runtime", "measured-boot", "rootfs-builder"])
def test_readme_of_a_tool_shows_each_of_its_commands(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [tuple(line.split()[1:]) for page, line in examples()
             if page == f"{program}/README.md" and line.startswith(f"{program} ")]  # fmt: skip
    commands = commands_of(program, monkeypatch)
    assert len(commands) > 4
    assert {each for each in commands if any(line[: len(each)] == each for line in lines)} == (
        commands
    )


def test_readme_of_the_host_names_the_files_that_a_guest_writes() -> None:
    files = GuestFiles(folder=Path())
    written = [*asdict(files.sinks).values(), files.events, files.vsock_capture, files.variables]
    page = (ROOT / "host-runtime/README.md").read_text()
    assert [path.name for path in written if f"`{path.name}`" not in page] == []


class Parsed(Exception):  # noqa: N818  # not an error
    """The command line was read to its end."""


def parse(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Read a command line as its program does, and do nothing.

    What may be left out is given, and an ellipsis that stands for more is not; what its output is
    piped into is another's.
    """
    program, *words = shlex.split(re.sub(r"[][]| …(?= |$)", "", line), comments=True)
    words = words[: words.index("|")] if "|" in words else words
    original = argparse.ArgumentParser.parse_args

    def parse_args(*arguments: Any) -> None:
        original(*arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    with pytest.raises(Parsed):
        COMMANDS[program](words)


@pytest.mark.parametrize(("page", "line"), examples(), ids=lambda text: text.partition("#")[0])
def test_example_is_a_valid_command_line(
    monkeypatch: pytest.MonkeyPatch, page: str, line: str
) -> None:
    for exported in shell_lines(page):
        if exported.startswith("export "):
            for word in shlex.split(exported, comments=True)[1:]:
                monkeypatch.setenv(*word.split("=", 1))
    parse(monkeypatch, line)


@pytest.mark.parametrize(
    "line", ["host-runtime wait --guest guest", "measured-boot predict", "rootfs-builder images"]
)
def test_an_invalid_command_line_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    with pytest.raises(SystemExit):
        parse(monkeypatch, line)
