"""An engine for tests of `ccinit-runtime`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.host.bare_engine import Engine, open_engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with open_engine(tmp_path) as engine:
        yield engine
