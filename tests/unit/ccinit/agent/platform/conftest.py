from pathlib import Path

import pytest

from ccinit.attest.detect import Node
from tests.unit.ccinit.agent.platform.measurement_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    node = tmp_path / "rtmr3"
    node.write_bytes(bytes(48))
    return Bench(Node(name="register", path=str(node), writable=True))
