"""What `--help` says is of one form in all of our commands.

Every argument says what it is, with a value in capitals; one that may be repeated says so; and one
that is written, what becomes of what is there.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import guest_owner.cli
import host_runtime.cli
import host_runtime.oci_runtime.cli
import measured_boot.cli
import rootfs_builder.cli

PROGRAMS = {
    "guest-owner": guest_owner.cli.build_parser,
    "host-runtime": host_runtime.cli._parser,
    "measured-boot": measured_boot.cli._parser,
    "rootfs-builder": rootfs_builder.cli._parser,
}
WRITTEN = {"disk_image", "layout", "output", "svg"}
WORDS = ("must not exist", "replaced", "append", "likewise")


ALL = pytest.mark.parametrize(
    "make_parser",
    [*PROGRAMS.values(), host_runtime.oci_runtime.cli._parser],
    ids=[*PROGRAMS, "ccinit-runtime"],
)


def arguments(
    parser: argparse.ArgumentParser, *words: str
) -> Iterator[tuple[str, argparse.Action]]:
    """Yield each argument of each command, with the words that lead to it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from arguments(inner, *words, name)
        else:
            yield f"{' '.join(words)}: {action.dest}", action


@ALL
def test_help_says_something_of_every_argument(
    make_parser: Callable[[], argparse.ArgumentParser],
) -> None:
    assert [name for name, action in arguments(make_parser()) if not action.help] == []


def is_vague(action: argparse.Action) -> bool:
    """Whether the help does not say what stands for a value, or not in capitals."""
    if action.choices is not None or action.nargs == 0:
        return False
    if action.option_strings:  # of its own, argparse makes capitals of the option's name
        return action.type is Path and action.metavar is None
    return not str(action.metavar).isupper()


@ALL
def test_help_says_in_capitals_what_stands_for_a_value(
    make_parser: Callable[[], argparse.ArgumentParser],
) -> None:
    assert [name for name, action in arguments(make_parser()) if is_vague(action)] == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_says_in_the_same_words_what_may_be_repeated(program: str) -> None:
    found = [(name, action) for name, action in arguments(PROGRAMS[program]())
             if isinstance(action, argparse._AppendAction)]  # fmt: skip
    assert found
    assert [name for name, action in found if "may be repeated" not in (action.help or "")] == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_says_what_becomes_of_what_is_there(program: str) -> None:
    found = [(name, action.help or "") for name, action in arguments(PROGRAMS[program]())
             if action.dest in WRITTEN]  # fmt: skip
    assert found
    assert [name for name, said in found if not any(word in said for word in WORDS)] == []


@ALL
def test_program_tells_its_version(
    make_parser: Callable[[], argparse.ArgumentParser], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        make_parser().parse_args(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.split()[0] == make_parser().prog
