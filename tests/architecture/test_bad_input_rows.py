"""Every row of the table of bad inputs that concerns attestation has a test of its name.

A row is a fault or a bad input of a hostile platform, network or KBS; its tests are named
`test_rNN_…` and live where what they test lives.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = (*range(15, 36), 98)
NAMES = [
    name
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"^ *(?:async )?def (test_r\d+_\w+)\(", path.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize("row", ROWS)
def test_row_has_a_test_of_its_name(row: int) -> None:
    assert [name for name in NAMES if name.startswith(f"test_r{row:02}_")]


def test_names_of_rows_are_found_at_all() -> None:
    assert len(NAMES) > len(ROWS)
