"""Text tables for terminals, safe for cells that a peer chose."""

from collections.abc import Iterable, Sequence

from guest_owner.terminal_text import printable

_GAP = "  "


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return lines with aligned columns; control characters become `?`."""
    lines = [tuple(map(printable, row)) for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
