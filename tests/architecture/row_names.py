"""Which rows of the table of faults and bad inputs have tests of their name, and where.

A test of rows 80 and 82 is named `test_r80_r82_…`. It counts if it is in the short run.
"""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
KINDS: Final = ("integration", "unit", "vm")
_TEST = re.compile(r"((?:^ *@pytest.*\n)*)^ *(?:async )?def test((?:_r\d+)+)_\w+\(", re.MULTILINE)
_MODULE_IS_LONG = re.compile(r"^pytestmark = .*pytest\.mark\.long", re.MULTILINE)


def rows_in(path: Path) -> set[int]:
    """Rows that have a test of their name in this file, `long` ones left out."""
    text = path.read_text()
    if _MODULE_IS_LONG.search(text):
        return set()
    return {
        int(row)
        for marks, rows in _TEST.findall(text)
        for row in re.findall(r"\d+", rows)
        if "pytest.mark.long" not in marks
    }


NAMES: Final = {
    (kind, row)
    for kind in KINDS
    for path in sorted((ROOT / "tests" / kind).rglob("test_*.py"))
    for row in rows_in(path)
}
"""(kind, row)."""
