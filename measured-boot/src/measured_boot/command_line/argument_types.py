"""Numbers on a command line: in range, or else wrong usage, reported before anything is done."""

import argparse
import re
from collections.abc import Callable
from typing import Final

_DIGITS: Final = re.compile("[0-9]{1,20}")


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        value = int(text) if _DIGITS.fullmatch(text) else low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}, found {text[:40]!r}")
        return value

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of seconds from `low`, 0 or more, to `high`; they may have a fraction."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not low <= value <= high:  # true for NaN, too
            detail = f"expected {low:g} to {high:g} seconds, found {text[:40]!r}"
            raise argparse.ArgumentTypeError(detail)
        return value

    return parse
