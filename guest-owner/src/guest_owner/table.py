"""Text tables for terminals, safe for cells that a peer chose."""

from collections.abc import Iterable, Sequence

_GAP = "  "


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return lines with aligned columns; control characters become `?`."""
    lines = [tuple(map(printable, row)) for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def printable(text: str) -> str:
    """Return `text` without anything that moves a terminal's cursor or changes its state."""
    return "".join(character if character.isprintable() else "?" for character in text)
