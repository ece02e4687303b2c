"""The rows as a picture: an SVG with one bar for each ratio, written by hand.

The axis is logarithmic, so that half and double are equally far from 1, where the peer stands. A
bar begins there and goes left if ours is less, which is better. A tick marks the goal, a diamond
the floor.
"""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from tests.bench.measurement import Row
from tests.bench.report import number

_WIDTH = 1120
_LEFT, _RIGHT = 380, 250
_TOP, _STEP, _BAR = 86, 34, 16
_BETTER, _WORSE, _INK, _FAINT, _GOAL = "#2a7f62", "#c2571a", "#1d2329", "#d4d9de", "#1f4e9c"
_FONT = f'font-family="sans-serif" font-size="13" fill="{_INK}"'
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def encode_chart(rows: Sequence[Row]) -> str:
    """Return the SVG text."""
    axis = _Axis(rows)
    height = _TOP + len(rows) * _STEP + 56
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_FONT}>',
        _rectangle(0, 0, _WIDTH, height, "white"),
        _text(20, 30, "ccinit against its peers: ours / peer, less is better", size=18),
        _text(20, 52, "each pair measured in turns in one run; 1 is the peer", colour="#5a646e"),
        *axis.lines(_TOP - 12, _TOP + len(rows) * _STEP),
    ]
    for index, row in enumerate(rows):
        parts += _row(row, axis, _TOP + index * _STEP)
    parts += [*_legend(height - 20), "</svg>"]
    return "\n".join(parts) + "\n"


class _Axis:
    """From a ratio to a place."""

    def __init__(self, rows: Sequence[Row]) -> None:
        values = [1.0]
        for row in rows:
            values += [row.ratio, row.goal]
            if row.floor is not None:
                values.append(row.floor / row.peer)
        positive = [value for value in values if value > 0]
        self._low = math.log(min(positive)) - 0.15
        self._high = math.log(max(positive)) + 0.15

    def place(self, ratio: float) -> float:
        part = (math.log(max(ratio, 1e-6)) - self._low) / (self._high - self._low)
        return _LEFT + min(max(part, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def lines(self, top: float, bottom: float) -> list[str]:
        parts = []
        for value in _STEPS:
            if self._low <= math.log(value) <= self._high:
                x = self.place(value)
                colour, width = (_INK, 1.5) if value == 1.0 else (_FAINT, 1.0)
                parts.append(_line(x, top, x, bottom, colour, width))
                parts.append(_text(x, bottom + 18, f"{value:g}", anchor="middle"))
        return parts


def _row(row: Row, axis: _Axis, y: float) -> list[str]:
    start, end = sorted((axis.place(1.0), axis.place(row.ratio)))
    middle = y + _BAR / 2
    goal = axis.place(row.goal)
    parts = [
        _text(_LEFT - 14, middle + 5, row.name, anchor="end"),
        _rectangle(start, y, max(end - start, 1), _BAR, _BETTER if row.met else _WORSE),
        _line(goal, y - 4, goal, y + _BAR + 4, _GOAL, 2.5),
    ]
    if row.floor is not None:
        x = axis.place(row.floor / row.peer)
        parts.append(_diamond(x, middle))
    figures = f"{number(row.ratio)}   {number(row.ours)} / {number(row.peer)} {row.unit}"
    parts.append(_text(_WIDTH - _RIGHT + 16, middle + 1, figures))
    parts.append(_text(_WIDTH - _RIGHT + 16, middle + 14, row.peer_name, size=10, colour="#5a646e"))
    return parts


def _legend(y: float) -> list[str]:
    entries = ((_BETTER, "goal met"), (_WORSE, "goal missed"))
    parts = []
    x = 20.0
    for colour, text in entries:
        parts.append(_rectangle(x, y - 10, 14, 11, colour))
        parts.append(_text(x + 20, y, text))
        x += 120
    parts += [_line(x, y - 12, x, y + 3, _GOAL, 2.5), _text(x + 10, y, "goal")]
    parts += [_diamond(x + 70, y - 5), _text(x + 82, y, "floor")]
    return parts


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"/>'


def _diamond(x: float, y: float) -> str:
    points = f"{x:.1f},{y - 6} {x + 5:.1f},{y} {x:.1f},{y + 6} {x - 5:.1f},{y}"
    return f'<polygon points="{points}" fill="white" stroke="{_INK}" stroke-width="1.5"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, colour: str = _INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}" xml:space="preserve">{escape(text)}</text>'
    )
