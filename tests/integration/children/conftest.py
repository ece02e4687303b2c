"""Children, and the promise that nothing of them stays."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ccinit.agent.processes.children import Children
from ccinit.kernel.process import owned_pids
from tests.integration.children.program import TABLE

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever a test's child did: no process and no fd of it stays."""
    gc.collect()  # what earlier tests left to the collector is not this one's
    before = count_fds()
    yield
    assert owned_pids() == ()
    assert count_fds() == before


def count_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


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
