"""Which rows a test shows, by its name and its marks; and all tests of the tree that show any.

A test whose subject is a row has it in its name: `test_r80_r82_…`. One that shows a row besides is
marked `@pytest.mark.fault_row("R51")`.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.table import Place, TableError

MARK: Final = "fault_row"
_NAME = re.compile(r"test((?:_r\d+)+)_")
_LONG = "pytest.mark.long"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTest:
    """A test function that shows rows.

    Attributes:
        node: as pytest names it, without parameters.
        is_long: left to `make test-long`.
    """

    node: str
    rows: frozenset[str]
    is_long: bool

    @property
    def place(self) -> Place:
        return place_of(self.node)


def place_of(node: str) -> Place:
    """Where a test runs.

    Raises:
        TableError: in none of the places where rows are shown.
    """
    try:
        return Place(node.split("/")[1])
    except (IndexError, ValueError) as error:
        raise TableError(f"{node}: rows are shown in tests/{{{','.join(Place)}}}") from error


def rows_in_name(name: str) -> frozenset[str]:
    """Return the rows that a test's name begins with."""
    found = _NAME.match(name)
    numbers = re.findall(r"\d+", found[1]) if found else []
    return frozenset(f"R{int(number)}" for number in numbers)


def checked_rows(rows: Iterable[object], known: Iterable[str], node: str) -> frozenset[str]:
    """Return a test's rows.

    Raises:
        TableError: there is no such row, or none may be shown where the test lies.
    """
    found = frozenset(map(str, rows))
    if unknown := found - frozenset(known):
        raise TableError(f"{node}: not in tests/faults/rows.toml: {', '.join(sorted(unknown))}")
    if found:
        place_of(node)
    return found


def row_tests_in(text: str, path: str) -> Iterator[RowTest]:
    """Find the tests of one file that show rows.

    Args:
        text: the file.
        path: from the repository's root, with slashes.
    """
    if MARK not in text and not re.search(r"\btest_r\d", text):
        return
    module = ast.parse(text)
    module_is_long = any(
        _LONG in ast.unparse(node)
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    )
    for outer in module.body:
        inner = outer.body if isinstance(outer, ast.ClassDef) else [outer]
        prefix = f"{path}::{outer.name}::" if isinstance(outer, ast.ClassDef) else f"{path}::"
        for function in inner:
            if isinstance(function, ast.FunctionDef) and (rows := _rows_of(function)):
                marks = map(ast.unparse, function.decorator_list)
                is_long = module_is_long or _LONG in marks
                yield RowTest(node=prefix + function.name, rows=rows, is_long=is_long)


def _rows_of(function: ast.FunctionDef) -> frozenset[str]:
    marked = (
        str(argument.value)
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(f".{MARK}")
        for argument in decorator.args
        if isinstance(argument, ast.Constant)
    )
    return rows_in_name(function.name) | frozenset(marked)


def all_row_tests(root: Path) -> tuple[RowTest, ...]:
    """Find every test of a tree that shows rows."""
    return tuple(
        test
        for place in Place
        for path in sorted((root / "tests" / place).rglob("test_*.py"))
        for test in row_tests_in(path.read_text(), path.relative_to(root).as_posix())
    )
