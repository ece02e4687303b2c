"""Text tables for terminals, safe even if a peer chose the cells' content."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from guest_owner.terminal_text import printable

_GAP: Final = "  "
_AT_ONCE: Final = 1024  # rows


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return lines with aligned columns; control characters become `?`."""
    lines = [tuple(map(printable, row)) for row in (header, *rows)]
    return "\n".join(_align(lines, _widths(lines)))


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table that may be larger than memory; none if it has no row.

    Rows are aligned a thousand at a time; columns never get narrower than in the rows before.
    """
    widths = [0] * len(header)
    above: tuple[Sequence[str], ...] = (header,)
    left = iter(rows)
    while part := tuple(itertools.islice(left, _AT_ONCE)):
        lines = [tuple(map(printable, row)) for row in (*above, *part)]
        widths = [max(pair) for pair in zip(widths, _widths(lines), strict=True)]
        yield from _align(lines, widths)
        above = ()


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _align(lines: Iterable[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield _GAP.join(cells).rstrip()
