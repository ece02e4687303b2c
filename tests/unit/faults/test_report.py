"""From results to verdicts: what is not shown does not pass, and the report says what it was."""

from typing import Any

import pytest

from tests.faults import __main__ as command
from tests.faults.marks import RowTest
from tests.faults.report import make_report, summarise
from tests.faults.results import Outcome, Result, Results, Seen
from tests.faults.table import FaultRow, Place

UNIT, VM = (f"tests/{where}/test_x.py::test_r1_{where}" for where in ("unit", "vm"))
LONG = "tests/vm/test_y.py::test_r1_long"
DECLARED = (
    RowTest(node=UNIT, rows=frozenset({"R1"}), is_long=False),
    RowTest(node=VM, rows=frozenset({"R1"}), is_long=False),
    RowTest(node=LONG, rows=frozenset({"R1"}), is_long=True),
)


def row(**fields: Any) -> FaultRow:
    texts = {"priority": "P0", "how": "so", "guest": "ends", "host": "a reset", "owner": "why"}
    return FaultRow(**{"id": "R1", "where": (Place.UNIT, Place.VM), **texts, **fields})


def result(outcome: Outcome, *, is_long: bool = False, **seen: tuple[str, ...]) -> Result:
    return Result(rows=("R1",), is_long=is_long, outcome=outcome, seen=Seen(**seen))


PASSED, FAILED, NOT_RUN = map(result, Outcome)
GOOD = {f"{UNIT}[a]": PASSED, f"{UNIT}[b]": PASSED, VM: PASSED}


def judged(tests: dict[str, Result], table_row: FaultRow | None = None) -> dict[str, Any]:
    report = make_report((table_row or row(),), DECLARED, Results(tree="tree", tests=tests))
    (found,) = report["rows"]
    assert report["counts"][found["verdict"]] == 1
    assert report["not_shown"] == (["R1"] if found["why"].startswith("not shown") else [])
    return dict(found)


def test_row_passes_when_all_of_its_tests_have() -> None:
    long = result(Outcome.NOT_RUN, is_long=True)
    found = judged({**GOOD, LONG: long, "tests/unit/test_z.py::test_r2": FAILED_ELSEWHERE})
    assert (found["verdict"], found["why"]) == ("pass", "")
    assert found["how"] == "so; in a guest; natively"
    assert found["expected"] == {"guest": "ends", "host": "a reset", "owner": "why"}
    assert found["tests"] == {"passed": 3, "failed": [], "not_run": [LONG]}


FAILED_ELSEWHERE = Result(rows=("R2",), is_long=False, outcome=Outcome.FAILED)


@pytest.mark.parametrize("node", [f"{UNIT}[b]", VM, LONG])
def test_row_fails_when_one_of_its_tests_has(node: str) -> None:
    found = judged({**GOOD, node: result(Outcome.FAILED, is_long=node == LONG)})
    assert (found["verdict"], found["why"]) == ("fail", f"failed: {node}")


@pytest.mark.parametrize(
    ("tests", "missing"),
    [
        pytest.param({}, f"tests/unit, tests/vm, {UNIT}, {VM}", id="nothing-ran"),
        pytest.param({UNIT: PASSED}, f"tests/vm, {VM}", id="one-place"),
        pytest.param({**GOOD, VM: NOT_RUN}, f"tests/vm, {VM}, {VM}", id="left-out"),
        pytest.param({**GOOD, f"{UNIT}[b]": NOT_RUN}, f"{UNIT}[b]", id="one-set-of-parameters"),
        pytest.param(
            {UNIT: PASSED, LONG: result(Outcome.PASSED, is_long=True)},
            f"tests/vm, {VM}",
            id="long-alone",
        ),
    ],
)
def test_row_that_is_not_shown_does_not_pass_and_says_by_what(
    tests: dict[str, Result], missing: str
) -> None:
    found = judged(tests)
    assert found["verdict"] == "fail"
    assert found["why"] == f"not shown: {', '.join(sorted(set(missing.split(', '))))}"


def test_row_that_needs_hardware_says_why() -> None:
    found = judged({}, row(where=(), needs_hardware="nobody has one"))
    assert (found["verdict"], found["why"]) == ("needs-hardware", "nobody has one")


def test_what_was_seen_is_in_the_report_once_and_of_passed_tests_only() -> None:
    found = judged(
        {
            f"{UNIT}[a]": result(Outcome.PASSED, guest=("boot.cmdline",)),
            f"{UNIT}[b]": result(Outcome.PASSED, guest=("boot.cmdline",)),
            VM: result(Outcome.PASSED, host=("CONFIG", "a reset")),
        }
    )
    assert (found["guest"], found["host_saw"]) == (["boot.cmdline"], ["CONFIG", "a reset"])
    assert found["owner_log"] is None
    assert judged({**GOOD, VM: result(Outcome.FAILED, host=("CONFIG",))})["host_saw"] is None


@pytest.mark.parametrize(
    ("verdicts", "code"), [(("pass", "needs-hardware"), 0), (("pass", "fail"), 1)]
)
def test_command_fails_unless_every_row_passes_or_needs_hardware(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verdicts: tuple[str, ...],
    code: int,
) -> None:
    rows = [{"id": "R1", "priority": "P0", "verdict": verdict, "why": "so"} for verdict in verdicts]
    counts = {verdict: verdicts.count(verdict) for verdict in ("pass", "fail", "needs-hardware")}
    report = {"rows": rows, "counts": counts, "not_shown": []}
    monkeypatch.setattr(command, "write_report", lambda *_: report)
    assert command.main() == code
    assert capsys.readouterr().out.startswith(f"fault rows: 1 of 2 pass, {code} fail, 0 not shown")


def test_summary_counts_and_names_what_does_not_pass() -> None:
    table = (row(), row(id="R2"), row(id="R3", where=(), needs_hardware="nobody has one"))
    report = make_report(table, DECLARED, Results(tree="tree", tests={**GOOD, VM: FAILED}))
    head, *lines = summarise(report)
    assert head == "fault rows: 0 of 3 pass, 1 fail, 1 not shown, 1 need hardware"
    assert lines == [
        f"   R1 P0  failed: {VM}",
        "   R2 P0  not shown: tests/unit and 1 more",
        "   R3 P0  nobody has one",
    ]
