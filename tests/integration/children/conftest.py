"""Children, and the promise that nothing of them stays."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ccinit.agent.processes.children import Children
from tests.fakes.machine.owned import owned_pids
from tests.integration.children.program import TABLE

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever a test's child did: no process and no fd of it stays."""
    before = open_fds()
    yield
    assert owned_pids() == ()
    assert open_fds() <= before  # a server of an earlier test may have closed its own meanwhile


def open_fds() -> set[int]:
    numbers = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
    return {number for number in numbers if is_open(number)}


def is_open(fd: int) -> bool:
    """Whether it is, and not the one by which the directory was read."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def children() -> Children:
    return Children(
        (sys.executable, "-m", "tests.integration.children.program"),
        {"PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))},
        table=TABLE,
    )


@pytest.fixture
def workspace() -> Iterator[Path]:
    """A directory below directories that everybody may enter (pytest's own are private)."""
    with TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)
