"""Commands of a command: each says what it does in the list of them and in its own help."""

import argparse
from typing import TypeAlias

# argparse has no public name for what `add_subparsers` returns.
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001


def add_command(commands: Subparsers, name: str, summary: str) -> argparse.ArgumentParser:
    """Add a command, and return the parser that takes its arguments."""
    return commands.add_parser(name, help=summary, description=summary)
