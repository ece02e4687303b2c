"""The KBS of the tests of the client."""

import pytest

from tests.fakes.kbs.http import FakeKbs
from tests.unit.ccinit.attest.guest_client import OTHER, URI


@pytest.fixture
def kbs() -> FakeKbs:
    return FakeKbs(resources={URI.path: b"secret a", OTHER.path: b"secret b"})
