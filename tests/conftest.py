"""Settings of every run: garbage, the list of guest boots, resuming a long run, rows of faults."""

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.harness.boots import BOOTS

pytest_plugins = ("tests.faults.plugin",)

os.environ["LANGUAGE"] = "C"
"""Or `argparse` looks in the file system for a translation of each word of each command line."""

BOOT_BUDGET = 24
"""Of one process. `tests/vm/guest` are one boot more, in a process of their own in `make test`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--resume",
        metavar="FILE",
        type=Path,
        help="leave out the tests that FILE lists as passed, and add those that pass now",
    )


@pytest.fixture(scope="module", autouse=True)
def _garbage_is_its_own() -> Iterator[None]:
    """Have a file or socket that a module leaves open blamed on it, and not on a later one.

    What is there before a module is left out of its looks for garbage, or each of them goes through
    all that pytest and the modules before have kept: up to 150 ms of processor time, and not 5.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.collect()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    resume: Path | None = config.getoption("--resume")
    if resume is None or not resume.exists():
        return
    passed = set(resume.read_text().splitlines())
    done = [item for item in items if item.nodeid in passed]
    items[:] = [item for item in items if item.nodeid not in passed]
    config.hook.pytest_deselected(items=done)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, None]:
    outcome = yield
    resume: Path | None = item.config.getoption("--resume")
    if resume is not None and call.when == "call" and outcome.get_result().passed:
        resume.parent.mkdir(parents=True, exist_ok=True)
        with resume.open("a") as file:
            file.write(item.nodeid + "\n")


def is_over_budget(count: int, selected: str) -> bool:
    """Whether a run has booted more guests than it may; `make test-long` has no budget.

    Args:
        count: of boots.
        selected: the expression by which markers were selected.
    """
    return count > BOOT_BUDGET and selected != "long"


def pytest_sessionfinish(session: pytest.Session) -> None:
    gc.unfreeze()  # what became garbage in a later module than its own: pytest's last look sees it
    if is_over_budget(len(BOOTS), session.config.option.markexpr):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not BOOTS:
        return
    terminalreporter.section(f"guest boots: {len(BOOTS)} of at most {BOOT_BUDGET}")
    for name, seconds in BOOTS:
        terminalreporter.write_line(f"{seconds:7.1f} s  {name}")
