"""A number that is out of bounds is told in one form everywhere: expected …, found …."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OTHER_FORMS = re.compile(
    r"\{\}[a-z ]*, (at most|at least|expected|not) (\{\}|[0-9])"
    r"|\{\} is (beyond|above|below|over|under|more than|less than) (\{\}|[0-9])"
)
KEEP = {"it is at {}, not {}", "the exchange is {}, not {}", "the guest speaks version {}, not {}"}


def texts(source: str) -> Iterator[str]:
    """Yield each f-string, with {} for its values."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )


def other_forms(source: str) -> set[str]:
    return {text for text in texts(source) if OTHER_FORMS.search(text)} - KEEP


def test_numbers_that_are_out_of_bounds_are_told_in_one_form() -> None:
    sources = (*ROOT.glob("ccinit/**/*.py"), *ROOT.glob("*/src/**/*.py"))
    assert sources
    assert {text for path in sources for text in other_forms(path.read_text())} == set()


def test_another_form_would_be_noticed() -> None:
    assert other_forms('f"{size} bytes, at most {limit}"') == {"{} bytes, at most {}"}
    assert other_forms('f"{value} is beyond {limit}"') == {"{} is beyond {}"}
    assert other_forms('f"{len(key)} bytes, expected 64"') == {"{} bytes, expected 64"}
    assert other_forms('f"expected at most {limit} bytes, found {size}"') == set()
