"""Subcommands: each says what it does, in the list of commands and in its own help.

Each sets `func`, a function from the parsed arguments to an exit status, as argparse's manual does.
"""

import argparse
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TypeAlias

# argparse has no public name for what `add_subparsers` returns.
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001


def add_command(commands: Subparsers, name: str, summary: str) -> argparse.ArgumentParser:
    """Add a command, and return the parser that takes its arguments."""
    return commands.add_parser(name, help=summary, description=summary)


def explain_form(parser: argparse.ArgumentParser, *modules: ModuleType) -> None:
    """Make `--help` show a file's format as the docstring of the code that reads it has it."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(module.__doc__ or "" for module in modules)


def run_chosen(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Run the command that the arguments choose, None for the process's own; return its status."""
    parsed = parser.parse_args(arguments)
    func: Callable[[argparse.Namespace], int] = parsed.func
    return func(parsed)
