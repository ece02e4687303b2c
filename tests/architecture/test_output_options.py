"""Every option says what it is, and one that is written what becomes of what is there."""

import argparse
from collections.abc import Callable, Iterator

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


def unexplained(parser: argparse.ArgumentParser, *words: str) -> Iterator[str]:
    """Yield each command's arguments that `--help` says nothing of."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from unexplained(inner, *words, name)
        elif not action.help:
            yield f"{' '.join(words)}: {action.dest}"


@pytest.mark.parametrize("make_parser", [*PROGRAMS.values(), host_runtime.oci_runtime.cli._parser])
def test_help_says_something_of_every_argument(
    make_parser: Callable[[], argparse.ArgumentParser],
) -> None:
    assert list(unexplained(make_parser())) == []


def outputs(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[str, str]]:
    """Yield each command's arguments that are written, and what its help says of them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from outputs(inner, *words, name)
        elif action.dest in WRITTEN:
            yield f"{' '.join(words)}: {action.dest}", action.help or ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_says_what_becomes_of_what_is_there(program: str) -> None:
    found = list(outputs(PROGRAMS[program]()))
    assert found
    assert [name for name, said in found if not any(word in said for word in WORDS)] == []
