"""A fresh KBS for every case, honest until the test changes it."""

from collections.abc import Iterator

import pytest

from tests.fakes.kbs.http import FakeKbs
from tests.fakes.kbs.tls import KbsServer
from tests.faults.plugin import FaultSeen
from tests.integration.kbs.hostile.harness import OTHER, URI, WatchedServer, body


@pytest.fixture
def server(fault_seen: FaultSeen) -> Iterator[KbsServer]:
    resources = {URI.path: body(), OTHER.path: body(str(OTHER))}
    with WatchedServer(kbs=FakeKbs(resources=resources), seen=fault_seen) as kbs:
        yield kbs
