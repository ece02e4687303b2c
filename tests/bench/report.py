"""What a run leaves: `report.json` with stable keys (DESIGN section 11), and a table for people."""

import dataclasses
import json
from collections.abc import Mapping, Sequence

from tests.bench.measurement import Row

_HEAD = ("", "ours", "peer", "floor", "", "ratio", "goal", "met", "runs", "spread", "peer is")


def encode_report(machine: Mapping[str, object], rows: Sequence[Row]) -> str:
    """Return the report as JSON text."""
    value = {"machine": dict(machine), "rows": [dataclasses.asdict(row) for row in rows]}
    return json.dumps(value, indent=2) + "\n"


def table_lines(rows: Sequence[Row]) -> list[str]:
    """Return the rows as lines of text, in columns."""
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    lines = [
        "  ".join(_align(cell, width, column) for column, (cell, width) in enumerate(pairs))
        for pairs in (zip(line, widths, strict=True) for line in cells)
    ]
    return [line.rstrip() for line in (lines[0], "-" * max(map(len, lines)), *lines[1:])]


def number(value: float | None) -> str:
    """Return a figure with three digits that count."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cells(row: Row) -> tuple[str, ...]:
    figures = (number(row.ours), number(row.peer), number(row.floor))
    verdict = "yes" if row.met else "NO"
    ratios = (number(row.ratio), f"≤ {number(row.goal)}", verdict)
    return (row.name, *figures, row.unit, *ratios, str(row.runs), f"{row.spread:.0%}",
            row.peer_name)  # fmt: skip


def _align(cell: str, width: int, column: int) -> str:
    is_text = column in {0, 4, len(_HEAD) - 1}
    return cell.ljust(width) if is_text else cell.rjust(width)
