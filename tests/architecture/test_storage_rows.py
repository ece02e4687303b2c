"""Every row of the table of faults about disks and memory has a test of its name.

A row is a fault or a bad input of a hostile host's disks; its tests are named `test_rNN_…`. The
second column says where they run: in the guest, where the kernel's own block layer fails, or
natively, where bytes are refused before any kernel sees them. Rows that a host can bring about
while the guest runs are made by one, too: outside of the guest, in the server of its disk or in
QEMU. Each row is in the short run; what is `long` comes besides.
"""

from pathlib import Path

import pytest

from tests.architecture.row_names import NAMES, ROOT, rows_in

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
HOST_MADE = (36, 37, 42, 43, 44, 45, 46, 47, 48, 49, 94)
HOST_FAULTS = ROOT / "tests/vm/guest/test_host_faults.py"


@pytest.mark.parametrize("row", ROWS)
def test_row_has_tests_of_its_name_where_it_must(row: int) -> None:
    assert [kind for kind in ("integration", "unit", "vm") if (kind, row) in NAMES] == list(
        ROWS[row]
    )


@pytest.mark.parametrize("row", HOST_MADE)
def test_row_is_made_by_a_host_outside_of_the_guest(row: int) -> None:
    assert row in rows_in(HOST_FAULTS)


def test_test_that_is_long_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "test_rows.py"
    text = "@pytest.mark.x\ndef test_r1_a() -> None:\n@pytest.mark.long\ndef test_r2_b() -> None:\n"
    path.write_text(text)
    assert rows_in(path) == {1}
    path.write_text("pytestmark = [pytest.mark.vm, pytest.mark.long]\n" + text)
    assert rows_in(path) == set()
    path.write_text("def test_r3_r14_r15_c() -> None:\n")
    assert rows_in(path) == {3, 14, 15}
