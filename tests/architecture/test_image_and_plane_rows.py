"""Every row of the table about images, pods, planes and logs has a test of its name.

Rows 50 to 72 are bad inputs of a registry or an image, 73 to 79 what a workload does to its guest,
80 to 88 what a host says to it, 89 to 93 what comes out of it. The second column says where: in a
guest, or natively. Each row is in the short run; what is `long` comes besides.
"""

import pytest

from tests.architecture.row_names import KINDS, NAMES

ROWS: dict[int, tuple[str, ...]] = {
    50: ("unit",),
    51: ("integration",),
    52: ("integration",),
    53: ("integration", "unit"),
    54: ("integration",),
    55: ("integration",),
    56: ("integration",),
    57: ("integration",),
    58: ("integration", "unit"),
    59: ("integration", "unit"),
    60: ("integration", "unit"),
    61: ("integration", "unit"),
    62: ("integration",),
    63: ("integration",),
    64: ("integration",),
    65: ("integration",),
    66: ("integration",),
    67: ("integration",),
    68: ("unit",),
    69: ("unit",),
    70: ("integration", "unit"),
    71: ("integration",),
    72: ("integration", "unit"),
    73: ("integration", "unit", "vm"),
    74: ("vm",),
    75: ("integration", "unit"),
    76: ("integration",),
    77: ("integration", "unit"),
    78: ("integration",),
    79: ("integration", "unit"),
    80: ("integration", "vm"),
    81: ("integration", "unit", "vm"),
    82: ("integration", "vm"),
    83: ("integration", "vm"),
    84: ("vm",),
    85: ("unit", "vm"),
    86: ("unit", "vm"),
    87: ("vm",),
    88: ("unit",),
    89: ("vm",),
    90: ("vm",),
    91: ("unit",),
    92: ("unit",),
    93: ("integration", "unit"),
}


@pytest.mark.parametrize("row", ROWS)
def test_row_has_tests_of_its_name_where_it_must(row: int) -> None:
    assert tuple(kind for kind in KINDS if (kind, row) in NAMES) == ROWS[row]


def test_no_row_is_left_out() -> None:
    assert list(ROWS) == list(range(50, 94))
