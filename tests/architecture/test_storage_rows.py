"""Every row of the table of faults about disks and memory has a test of its name.

A row is a fault or a bad input of a hostile host's disks; its tests are named `test_rNN_…`. The
second column says where they run: in the guest, where the kernel's own block layer fails, or
natively, where bytes are refused before any kernel sees them.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS: dict[int, tuple[str, ...]] = {
    36: ("unit", "vm"),
    37: ("vm",),
    38: ("integration", "unit", "vm"),
    39: ("integration", "unit"),
    40: ("unit",),
    41: ("unit",),
    42: ("vm",),
    43: ("vm",),
    44: ("integration", "vm"),
    45: ("vm",),
    46: ("unit", "vm"),
    47: ("vm",),
    48: ("vm",),
    49: ("unit", "vm"),
    74: ("vm",),
    94: ("vm",),
}
NAMES = {
    (kind, int(row))
    for kind in ("integration", "unit", "vm")
    for path in sorted((ROOT / "tests" / kind).rglob("test_*.py"))
    for row in re.findall(r"^ *(?:async )?def test_r(\d+)_\w+\(", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("row", ROWS)
def test_row_has_tests_of_its_name_where_it_must(row: int) -> None:
    assert [kind for kind in ("integration", "unit", "vm") if (kind, row) in NAMES] == list(
        ROWS[row]
    )
