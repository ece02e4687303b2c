"""From table, tests and results to the report of DESIGN section 11 and its summary. Pure.

A row passes if every test of the short run that shows it has passed on this very tree, in each
place where the table wants it, and no test of it has failed, long ones included. Whatever is not
shown fails; `why` says whether it was shown to be wrong, or not shown.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from tests.faults.marks import RowTest, place_of
from tests.faults.results import Outcome, Result, Results
from tests.faults.table import FaultRow, Place

PASS, FAIL, NEEDS_HARDWARE = "pass", "fail", "needs-hardware"
_PLACES: Final = {
    Place.INTEGRATION: "natively with real parts",
    Place.UNIT: "natively",
    Place.VM: "in a guest",
}


def make_report(
    table: Sequence[FaultRow], declared: Sequence[RowTest], results: Results
) -> dict[str, Any]:
    """Judge every row.

    Args:
        table: every row there is.
        declared: every test function of the tree that shows any.
        results: of runs of this very tree.

    Returns:
        The report; keys are those of DESIGN section 11, and besides `tree`, `not_shown` (ids) and,
        for each row, `why` and `tests`.
    """
    rows = [_judge(row, declared, results) for row in table]
    return {
        "tree": results.tree,
        "counts": {
            verdict: sum(row["verdict"] == verdict for row in rows)
            for verdict in (PASS, FAIL, NEEDS_HARDWARE)
        },
        "not_shown": [row["id"] for row in rows if row["why"].startswith("not shown")],
        "rows": rows,
    }


def _judge(row: FaultRow, declared: Iterable[RowTest], results: Results) -> dict[str, Any]:
    ran = {node: result for node, result in results.tests.items() if row.id in result.rows}
    failed = sorted(node for node, one in ran.items() if one.outcome is Outcome.FAILED)
    passed = [node for node, one in ran.items() if one.outcome is Outcome.PASSED]
    missing = sorted(set(_missing(row, declared, ran)))
    verdict, why = FAIL, ""
    if row.needs_hardware:
        verdict, why = NEEDS_HARDWARE, row.needs_hardware
    elif failed:
        why = f"failed: {', '.join(failed)}"
    elif missing:
        why = f"not shown: {', '.join(missing)}"
    else:
        verdict = PASS
    return {
        "id": row.id,
        "priority": row.priority,
        "how": "; ".join((row.how, *(_PLACES[place] for place in reversed(row.where)))),
        "expected": {"guest": row.guest, "host": row.host, "owner": row.owner},
        "guest": _seen(ran, "guest"),
        "host_saw": _seen(ran, "host"),
        "owner_log": _seen(ran, "owner"),
        "verdict": verdict,
        "why": why,
        "tests": {
            "passed": len(passed),
            "failed": failed,
            "not_run": sorted(ran.keys() - set(failed) - set(passed)),
        },
    }


def _missing(
    row: FaultRow, declared: Iterable[RowTest], ran: Mapping[str, Result]
) -> Iterator[str]:
    """What has to have passed and has not: places, functions, and single sets of parameters."""
    passed = {node for node, one in ran.items() if one.outcome is Outcome.PASSED}
    functions = {node.partition("[")[0] for node in passed}
    for place in row.where:
        if not any(place_of(node) is place and not ran[node].is_long for node in passed):
            yield f"tests/{place}"
    for test in declared:
        if row.id in test.rows and not test.is_long and test.node not in functions:
            yield test.node
    for node, one in ran.items():
        if one.outcome is Outcome.NOT_RUN and not one.is_long:
            yield node


def _seen(ran: Mapping[str, Result], whose: str) -> list[str] | None:
    """What tests that passed saw, each word once; None where none of them could look."""
    words = {
        word
        for one in ran.values()
        if one.outcome is Outcome.PASSED
        for word in getattr(one.seen, whose)
    }
    return sorted(words) or None


def summarise(report: Mapping[str, Any]) -> list[str]:
    """Return one line for the whole, and one for each row that does not pass."""
    counts, unshown = report["counts"], set(report["not_shown"])
    total = len(report["rows"])
    head = (
        f"fault rows: {counts[PASS]} of {total} pass, {counts[FAIL] - len(unshown)} fail, "
        f"{len(unshown)} not shown, {counts[NEEDS_HARDWARE]} need hardware"
    )
    rows = (row for row in report["rows"] if row["verdict"] != PASS)
    return [head, *(f"{row['id']:>5} {row['priority']}  {_shortened(row)}" for row in rows)]


def _shortened(row: Mapping[str, Any]) -> str:
    first, *more = row["why"].split(", ") if row["verdict"] == FAIL else (row["why"],)
    return f"{first} and {len(more)} more" if more else first
