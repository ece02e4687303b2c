"""What became of the tests that show rows, over several runs of one state of the tree. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

VERSION: Final = 1


class Outcome(StrEnum):
    """What became of one test: `not run` is one that was left out or skipped."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a test saw of a fault, where it could look: in its own words, each once.

    Attributes:
        guest: reasons by which the guest's code refused it.
        host: what the host got.
        owner: what the owner read in the unsealed log.
    """

    guest: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    owner: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One test, with its parameters.

    Attributes:
        is_long: left to `make test-long`.
    """

    rows: tuple[str, ...]
    is_long: bool
    outcome: Outcome
    seen: Seen = Seen()


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Results that belong to one state of the tree.

    Attributes:
        tree: digest of that state.
        tests: by node id.
    """

    tree: str
    tests: Mapping[str, Result]


def merge(before: Results | None, tree: str, tests: Mapping[str, Result]) -> Results:
    """Add a run's results to those of earlier runs.

    Results of another state of the tree are dropped. A test that did not run now keeps what it had.
    """
    kept = dict(before.tests) if before is not None and before.tree == tree else {}
    for node, result in tests.items():
        if node not in kept or result.outcome is not Outcome.NOT_RUN:
            kept[node] = result
    return Results(tree=tree, tests=kept)


def outcome_of(phases: Iterable[tuple[str, str]]) -> Outcome:
    """Judge a test by its phases, as pytest reports them: when ("call"), and outcome."""
    told = tuple(phases)
    if any(outcome == "failed" for _, outcome in told):
        return Outcome.FAILED
    return Outcome.PASSED if ("call", "passed") in told else Outcome.NOT_RUN


def to_json(results: Results) -> str:
    """Write results as `from_json` reads them."""
    tests = {node: asdict(result) for node, result in sorted(results.tests.items())}
    return json.dumps({"version": VERSION, "tree": results.tree, "tests": tests}, indent=1) + "\n"


def from_json(text: str) -> Results | None:
    """Read results; None if they are of another form, for then nothing is known."""
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            return None
        tests = {node: _result(fields) for node, fields in document["tests"].items()}
        return Results(tree=document["tree"], tests=tests)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _result(fields: dict[str, Any]) -> Result:
    seen = {key: tuple(values) for key, values in fields["seen"].items()}
    return Result(
        rows=tuple(fields["rows"]),
        is_long=fields["is_long"],
        outcome=Outcome(fields["outcome"]),
        seen=Seen(**seen),
    )
