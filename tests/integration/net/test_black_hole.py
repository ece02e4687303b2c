"""A path that silently drops large packets: TCP finds out by itself."""

import pytest

from tests.integration.net.black_hole_program import EVIDENCE
from tests.integration.net.namespaces import run_apart

pytestmark = pytest.mark.usefixtures("as_root")


def test_evidence_arrives_where_the_way_drops_large_packets() -> None:
    seen = run_apart("tests.integration.net.black_hole_program")
    assert seen["arrived"] == len(EVIDENCE)
    assert seen["before"] > 1300 >= seen["after"]  # what was first sent had no way through
