"""Wrong usage: what nobody could do, whatever is in the files, and whoever answers.

Such a command ends with status 2, and before it looks at any file. argparse sees to that for a word
that has no meaning, and with `as_word` for one that only a parser of ours can judge; a command that
finds words which contradict each other raises `UsageError`.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ccinit.errors import ConfigError, FormatError

Word = TypeVar("Word")


class UsageError(ConfigError):
    """The words of a command line contradict each other, or one has no meaning."""


def as_word(parse: Callable[[str], Word]) -> Callable[[str], Word]:
    """Return a parser of ours as the `type` of an argument: what it refuses is wrong usage."""

    def parse_word(text: str) -> Word:
        try:
            return parse(text)
        except (ConfigError, FormatError) as error:
            raise argparse.ArgumentTypeError(f"{error.detail} [{error.reason}]") from error

    return parse_word


@contextmanager
def judging_words() -> Iterator[None]:
    """Make what is refused in the block wrong usage: where only several words tell how to judge.

    Raises:
        UsageError: with the reason that was given.
    """
    try:
        yield
    except (ConfigError, FormatError) as error:
        raise UsageError(error.reason, error.detail) from error
