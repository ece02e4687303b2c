"""What pytest does for the rows: checks their marks, and records what became of their tests.

Inside a test guest the tests only say what they see; the reports bring that to the host, where this
records it.
"""

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.faults.marks import MARK, checked_rows, rows_in_name
from tests.faults.results import Outcome, Result, Seen, outcome_of
from tests.faults.store import FOLDER, add_results, digest_of_tree, write_report
from tests.faults.table import TableError, read_table

_PROPERTY: Final = "fault."
_ROWS: Final = pytest.StashKey[frozenset[str]]()
_IS_IN_GUEST: Final = "CCINIT_GUEST_REPORTS" in os.environ


class FaultSeen:
    """What a test says of a fault that it has seen; in the report if it passes."""

    def __init__(self, item: pytest.Item) -> None:
        self._properties = item.user_properties

    def guest(self, *reasons: str) -> None:
        """The guest's code refused it for these reasons."""
        self._add("guest", reasons)

    def host(self, *words: str) -> None:
        """The host got this, and may have got no more."""
        self._add("host", words)

    def owner(self, *words: str) -> None:
        """The owner read this in the sealed log."""
        self._add("owner", words)

    def _add(self, whose: str, words: tuple[str, ...]) -> None:
        self._properties += [(_PROPERTY + whose, word) for word in words]


@pytest.fixture
def fault_seen(request: pytest.FixtureRequest) -> FaultSeen:
    """Where a test of a row says what guest, host and owner made of the fault."""
    assert isinstance(request.node, pytest.Item)
    return FaultSeen(request.node)


class RowRecorder:
    """The tests of one run that show rows, and their reports."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tests: dict[str, tuple[frozenset[str], bool]] = {}
        self._phases: dict[str, list[tuple[str, str]]] = {}
        self._seen: dict[str, list[tuple[str, str]]] = {}
        self._tree = ""
        self.told = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note every test that shows rows, those that are left out included."""
        known = [row.id for row in read_table()]
        for item in items:
            name = getattr(item, "originalname", item.name)
            marked = (row for mark in item.iter_markers(MARK) for row in mark.args)
            try:
                rows = checked_rows({*rows_in_name(name), *marked}, known, item.nodeid)
            except TableError as error:
                raise pytest.UsageError(str(error)) from error
            if rows:
                self._tests[item.nodeid] = (rows, item.get_closest_marker("long") is not None)

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Note which tree is about to be tested."""
        if self._tests and not session.config.option.collectonly:
            self._tree = _digest(self._root)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a phase of a test that shows rows."""
        if report.nodeid in self._tests:
            self._phases.setdefault(report.nodeid, []).append((report.when, report.outcome))
            self._seen[report.nodeid] = [
                (name.removeprefix(_PROPERTY), str(value))
                for name, value in report.user_properties
                if name.startswith(_PROPERTY)
            ]

    def pytest_sessionfinish(self) -> None:
        """Record the run, if it was of one tree."""
        if not self._phases:
            return
        if not self._tree:
            self.told = "fault rows: only git could say which tree this is; nothing is recorded"
            return
        if _digest(self._root) != self._tree:
            self.told = "fault rows: the tree has changed while it was tested; nothing is recorded"
            return
        tests = {node: self._result(node) for node in self._tests}
        add_results(self._root / FOLDER, self._tree, tests)
        write_report(self._root, self._root / FOLDER)

    def _result(self, node: str) -> Result:
        rows, is_long = self._tests[node]
        outcome = outcome_of(self._phases.get(node, ()))
        words = dict.fromkeys(self._seen.get(node, ()))
        seen = {
            whose: tuple(word for of, word in words if of == whose)
            for whose in ("guest", "host", "owner")
        }
        return Result(
            rows=tuple(sorted(rows)),
            is_long=is_long,
            outcome=outcome,
            seen=Seen(**seen) if outcome is Outcome.PASSED else Seen(),
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say if nothing was recorded."""
        if self.told:
            terminalreporter.write_line(self.told)


def _digest(root: Path) -> str:
    try:
        return digest_of_tree(root)
    except (OSError, subprocess.CalledProcessError):
        return ""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark; on the host, record."""
    config.addinivalue_line("markers", f"{MARK}(*ids): shows these rows of tests/faults/rows.toml")
    if not _IS_IN_GUEST:
        config.pluginmanager.register(RowRecorder(config.rootpath), "fault rows")
