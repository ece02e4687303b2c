"""Draw the chain of an image as text or as an SVG.

The drawing has no digests, so it is the same for every image of a kind, and documents can include
it (`docs/measured-boot-*.svg`).

Specification: SVG 1.1, sections 9 (shapes) and 10 (text).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final
from xml.sax.saxutils import escape

from measured_boot.explanation import Step

_ROW: Final = 26
_MARGIN: Final = 16
_TITLE: Final = 34
_LEFT, _LEFT_WIDTH = _MARGIN, 150
_MIDDLE, _MIDDLE_WIDTH = 236, 290
_RIGHT, _RIGHT_WIDTH = 612, 270
_WIDTH: Final = _RIGHT + _RIGHT_WIDTH + _MARGIN
_DIGEST_CHARACTERS: Final = 16
_STYLE: Final = (
    "text{font:13px sans-serif;fill:#222}.t{font-weight:bold}.a{font-size:11px;fill:#555}"
    "rect{stroke:#888;fill:#f4f4f4}.b{stroke:none;fill:#fff}.w{fill:#dfe9f5}.r{fill:#e6f2e1}"
    "line{stroke:#888}"
)


def draw_text(steps: Iterable[Step]) -> str:
    """Return one line for each step, in columns; digests are cut."""
    rows = tuple(steps)
    who, what = (max(len(getattr(row, name)) for row in rows) for name in ("who", "what"))
    lines = (
        f"{step.who:{who}}  {step.action:8}  {step.what:{what}}  {step.where}"
        f"{'  ' + step.digest[:_DIGEST_CHARACTERS] if step.digest else ''}"
        for step in rows
    )
    return "\n".join(lines) + "\n"


def draw_svg(steps: Iterable[Step], title: str) -> str:
    """Return the drawing: programs on the left, what they look at, and where it shows."""
    rows = tuple(steps)
    height = _MARGIN * 2 + _TITLE + _ROW * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="b" width="{_WIDTH}" height="{height}"/>',
        _text(_LEFT, _MARGIN + 14, title, "t"),
        *_draw_groups(rows),
        *(part for number, step in enumerate(rows) for part in _draw_row(number, step)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    left: int
    width: int
    first_row: int
    rows: int = 1

    def draw(self, label: str, style: str) -> Iterator[str]:
        top = _top(self.first_row) + 2
        height = _ROW * self.rows - 4
        yield (
            f'<rect class="{style}" x="{self.left}" y="{top}" width="{self.width}" '
            f'height="{height}" rx="4"/>'
        )
        yield _text(self.left + 8, top + height // 2 + 5, label)


def _draw_groups(rows: Sequence[Step]) -> Iterator[str]:
    """Yield one box for each run of steps of one program."""
    first = 0
    for who, group in groupby(rows, lambda step: step.who):
        count = len(tuple(group))
        yield from _Box(left=_LEFT, width=_LEFT_WIDTH, first_row=first, rows=count).draw(who, "w")
        first += count


def _draw_row(number: int, step: Step) -> Iterator[str]:
    middle = _top(number) + _ROW // 2
    for start, end in ((_LEFT + _LEFT_WIDTH, _MIDDLE), (_MIDDLE + _MIDDLE_WIDTH, _RIGHT)):
        yield f'<line x1="{start}" y1="{middle}" x2="{end}" y2="{middle}"/>'
    yield _text(_LEFT + _LEFT_WIDTH + 8, middle - 3, step.action, "a")
    yield from _Box(left=_MIDDLE, width=_MIDDLE_WIDTH, first_row=number).draw(step.what, "s")
    yield from _Box(left=_RIGHT, width=_RIGHT_WIDTH, first_row=number).draw(step.where, "r")


def _top(row: int) -> int:
    return _MARGIN + _TITLE + _ROW * row


def _text(left: int, base: int, text: str, style: str = "l") -> str:
    return f'<text class="{style}" x="{left}" y="{base}">{escape(text)}</text>'
