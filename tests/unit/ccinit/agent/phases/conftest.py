"""Fixtures shared by the tests of phases."""

import pytest

from tests.unit.ccinit.agent.phases.kbs_of_replies import Kbs


@pytest.fixture
def kbs(monkeypatch: pytest.MonkeyPatch) -> Kbs:
    return Kbs(monkeypatch)
