"""Every row of the table of faults has a test in each place where it says so, and in no other.

What is `long` does not count, it comes besides. Whether the tests pass is for the report to say.
"""

from pathlib import Path

import pytest

from tests.faults.marks import all_row_tests, row_tests_in
from tests.faults.table import COUNT, FaultRow, Place, TableError, parse_table, read_table

ROOT = Path(__file__).resolve().parents[2]
TESTS = all_row_tests(ROOT)
HOST_FAULTS = "tests/vm/guest/test_host_faults.py"
HOST_MADE = (36, 37, 42, 43, 44, 45, 46, 47, 48, 49, 94)
"""Rows that a host can bring about while the guest runs: in the server of its disk, or in QEMU."""


@pytest.mark.parametrize("row", read_table(), ids=lambda row: row.id)
def test_row_has_tests_in_the_short_run_where_it_must(row: FaultRow) -> None:
    found = {test.place for test in TESTS if row.id in test.rows and not test.is_long}
    assert sorted(found) == list(row.where)


def test_no_test_shows_a_row_that_does_not_exist() -> None:
    known = {row.id for row in read_table()}
    assert [test.node for test in TESTS if not test.rows <= known] == []


@pytest.mark.parametrize("row", HOST_MADE)
def test_row_is_made_by_a_host_outside_of_the_guest(row: int) -> None:
    rows = [test.rows for test in TESTS if test.node.startswith(f"{HOST_FAULTS}::")]
    assert any(f"R{row}" in each for each in rows)


def test_rows_of_a_test_are_those_of_its_name_and_of_its_marks() -> None:
    text = (
        "@pytest.mark.x\ndef test_r1_a(): ...\n"
        "@pytest.mark.parametrize(\n    'x', [\n        1,\n    ],\n)\n"
        '@pytest.mark.fault_row("R51", "R3")\ndef test_r02_r14_b(): ...\n'
        "@pytest.mark.long\ndef test_r15_c(): ...\n"
        "def test_round(): ...\n"
        "class TestIt:\n    def test_r4_d(self): ...\n"
    )
    path = "tests/vm/guest/test_x.py"
    found = {test.node: test for test in row_tests_in(text, path)}
    assert {name: sorted(test.rows) for name, test in found.items()} == {
        f"{path}::test_r1_a": ["R1"],
        f"{path}::test_r02_r14_b": ["R14", "R2", "R3", "R51"],
        f"{path}::test_r15_c": ["R15"],
        f"{path}::TestIt::test_r4_d": ["R4"],
    }
    assert [test.node for test in found.values() if test.is_long] == [f"{path}::test_r15_c"]
    assert {test.place for test in found.values()} == {Place.VM}
    module = "pytestmark = [pytest.mark.vm, pytest.mark.long]\n" + text
    assert all(test.is_long for test in row_tests_in(module, path))


ROW = 'priority = "P0"\nhow = "x"\nguest = "x"\nhost = "x"\nowner = "x"\nwhere = ["unit"]\n'
WHOLE = "".join(f"[R{number}]\n{ROW}" for number in range(1, COUNT + 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("[R7]", "[R7a]", id="name"),
        pytest.param(f"[R98]\n{ROW}", "", id="missing"),
        pytest.param('"P0"', '"P9"', id="priority"),
        pytest.param('how = "x"\n', "", id="key"),
        pytest.param('how = "x"\n', 'how = ""\n', id="empty"),
        pytest.param('["unit"]', '["vm", "unit"]', id="order"),
        pytest.param('["unit"]', "[]", id="nowhere"),
        pytest.param('["unit"]', '["unit"]\nneeds_hardware = "x"', id="both"),
    ],
)
def test_table_of_another_form_is_refused(old: str, new: str) -> None:
    parse_table(WHOLE)
    with pytest.raises(TableError):
        parse_table(WHOLE.replace(old, new, 1))


def test_row_that_needs_hardware_has_no_place() -> None:
    (row, *_) = parse_table(WHOLE.replace('["unit"]', '[]\nneeds_hardware = "why"', 1))
    assert (row.where, row.needs_hardware) == ((), "why")
