"""Results of several runs: which are kept, and which belong to another state of the tree."""

import pytest

from tests.faults.results import (
    Outcome,
    Result,
    Results,
    Seen,
    from_json,
    merge,
    outcome_of,
    to_json,
)

TREE, OTHER = "0" * 64, "1" * 64
NODE = "tests/unit/test_x.py::test_r1_x"


def result(outcome: Outcome, *, seen: Seen = Seen()) -> Result:  # noqa: B008  # frozen
    return Result(rows=("R1",), is_long=False, outcome=outcome, seen=seen)


def test_results_of_another_tree_are_dropped() -> None:
    before = Results(tree=OTHER, tests={NODE: result(Outcome.PASSED)})
    assert merge(before, TREE, {}) == Results(tree=TREE, tests={})
    assert merge(before, OTHER, {}) == before
    assert merge(None, TREE, {}) == Results(tree=TREE, tests={})


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [
        (Outcome.PASSED, Outcome.FAILED, Outcome.FAILED),
        (Outcome.FAILED, Outcome.PASSED, Outcome.PASSED),
        (Outcome.FAILED, Outcome.NOT_RUN, Outcome.FAILED),
        (Outcome.PASSED, Outcome.NOT_RUN, Outcome.PASSED),
        (Outcome.NOT_RUN, Outcome.PASSED, Outcome.PASSED),
    ],
)
def test_last_run_of_a_test_counts(before: Outcome, now: Outcome, kept: Outcome) -> None:
    earlier = Results(tree=TREE, tests={NODE: result(before), "other": result(before)})
    merged = merge(earlier, TREE, {NODE: result(now)})
    assert merged.tests == {NODE: result(kept), "other": result(before)}


@pytest.mark.parametrize(
    ("phases", "outcome"),
    [
        ([("setup", "passed"), ("call", "passed"), ("teardown", "passed")], Outcome.PASSED),
        ([("setup", "passed"), ("call", "failed"), ("teardown", "passed")], Outcome.FAILED),
        ([("setup", "passed"), ("call", "passed"), ("teardown", "failed")], Outcome.FAILED),
        ([("setup", "failed"), ("teardown", "passed")], Outcome.FAILED),
        ([("setup", "skipped"), ("teardown", "passed")], Outcome.NOT_RUN),
        ([("setup", "passed"), ("call", "skipped"), ("teardown", "passed")], Outcome.NOT_RUN),
        ([], Outcome.NOT_RUN),
    ],
)
def test_outcome_is_that_of_all_phases(phases: list[tuple[str, str]], outcome: Outcome) -> None:
    assert outcome_of(phases) is outcome


def test_results_come_back_from_their_file() -> None:
    seen = Seen(guest=("boot.cmdline",), host=("reset",))
    results = Results(tree=TREE, tests={NODE: result(Outcome.PASSED, seen=seen)})
    assert from_json(to_json(results)) == results


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "tree": "", "tests": {}}',
        '{"version": 1, "tests": {"a": 1}}',
    ],
)
def test_file_of_another_form_says_nothing(text: str) -> None:
    assert from_json(text) is None
