"""A KBS whose state is made once, and a fresh server over it for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kbs.harness import Kbs, make_state, running_kbs


@pytest.fixture(scope="module")
def registered_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_state(tmp_path_factory.mktemp("owner"))


@pytest.fixture
def kbs(registered_state: Path) -> Iterator[Kbs]:
    with running_kbs(registered_state) as server:
        yield server
