"""guest-owner/README.md and the command line agree: each command, each summary, each example."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest_owner.cli import build_parser

README = (Path(__file__).resolve().parents[2] / "guest-owner/README.md").read_text()


def commands(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, str]]:
    """Every command that does something, with the summary that `--help` prints."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for shown in action._choices_actions:
                inner = action.choices[shown.dest]
                found = list(commands(inner, (*path, shown.dest)))
                yield from found or [(" ".join((*path, shown.dest)), shown.help or "")]


def shell_lines(first_word: str) -> list[str]:
    """Every line in the README's shell blocks that begins so, continued lines joined."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        found += [line for line in lines if line.startswith(first_word + " ")]
    return found


def examples() -> list[str]:
    return shell_lines("guest-owner")


def test_readme_lists_every_command_with_its_summary() -> None:
    listed = dict(re.findall(r"^\| `([a-z -]+)` \| ([^|]+) \|$", README, re.MULTILINE))
    assert listed == dict(commands(build_parser()))


def test_readme_shows_how_to_use_every_group() -> None:
    groups = {name.split()[0] for name, _ in commands(build_parser())}
    assert {line.split()[1] for line in examples()} == groups


@pytest.mark.parametrize("line", examples(), ids=lambda line: line.partition("#")[0].strip())
def test_readme_example_is_a_valid_command_line(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    for exported in shell_lines("export"):
        for word in shlex.split(exported, comments=True)[1:]:
            monkeypatch.setenv(*word.split("=", 1))
    words = shlex.split(line, comments=True)[1:]
    assert callable(build_parser().parse_args(words).func)


def test_an_invalid_command_line_would_be_noticed() -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["policy", "allow", "ccinit/shop/*"])
