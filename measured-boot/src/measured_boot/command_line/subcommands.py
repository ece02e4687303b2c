"""Programs and their commands: each says what it does, in the list of commands and in its own help.

Each command sets `func`, a function from the parsed arguments to an exit status, as argparse's
manual does.
"""

import argparse
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Never, TypeAlias

# argparse has no public name for what `add_subparsers` returns.
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001


def make_parser(program: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Return the parser of a program, which is of the distribution `ccinit-` and its name."""
    parser = argparse.ArgumentParser(prog=program, description=description, epilog=epilog)
    parser.add_argument(
        "--version",
        action=VersionAction,
        say=lambda number: f"{program} {number}",
        distribution=f"ccinit-{program}",
    )
    return parser


class VersionAction(argparse.Action):
    """Print the version of a distribution and end, as argparse's `version` does.

    The number is looked up only if it is asked for: finding it takes as long as many a command.
    """

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        *,
        distribution: str,
        say: Callable[[str], str],
    ) -> None:
        """Print what `say` makes of the version of `distribution`."""
        text = "print the version and end"
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=text)
        self._distribution = distribution
        self._say = say

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> Never:
        """Print it."""
        from importlib.metadata import version  # noqa: PLC0415 - see above

        print(self._say(version(self._distribution)))
        parser.exit()


def add_commands(parser: argparse.ArgumentParser) -> Subparsers:
    """Make a program, or a command, take one of several commands; return them, none yet."""
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


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
