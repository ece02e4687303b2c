"""What the tests of a connection begin with."""

from collections.abc import Iterator

import pytest

from tests.unit.ccinit.owner.connection_world import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.client.close()
    made.guest.close()
