"""A fresh KBS for every case, honest until the test changes it."""

from collections.abc import Iterator

import pytest

from tests.fakes.kbs_http import FakeKbs
from tests.fakes.kbs_tls import KbsServer
from tests.integration.hostile_kbs.harness import OTHER, URI, body


@pytest.fixture
def server() -> Iterator[KbsServer]:
    with KbsServer(kbs=FakeKbs(resources={URI.path: body(), OTHER.path: body(str(OTHER))})) as kbs:
        yield kbs
