"""`make faults`: writes build/faults/report.json, and prints what it says of the rows."""

import sys
from pathlib import Path

from tests.faults.report import NEEDS_HARDWARE, PASS, summarise
from tests.faults.store import FOLDER, write_report

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Return 1 if a row neither passes nor needs hardware."""
    report = write_report(ROOT, ROOT / FOLDER)
    print(*summarise(report), f"report: {FOLDER}/report.json", sep="\n")
    return int(any(row["verdict"] not in (PASS, NEEDS_HARDWARE) for row in report["rows"]))


if __name__ == "__main__":
    sys.exit(main())
